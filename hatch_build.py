"""A slim wheel on demand: ``GREPQ_SLIM=1 python -m build --wheel`` leaves the encoders of the bundled model out.

They are then downloaded from the Hub at first use, as weights.json says; the ordinary wheel keeps them inside.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SMALL = 1_000_000  # bytes; tables of this size stay in every wheel


class SlimHook(BuildHookInterface):
    """Excludes the large files of bundled models that weights.json finds on the Hub."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        if os.environ.get("GREPQ_SLIM", "") not in ("1", "true", "yes") or self.target_name != "wheel":
            return
        root = Path(self.root)
        listed = root / "weights.json"
        models = json.loads(listed.read_text(encoding="utf-8"))["models"]
        left_out: dict[str, bool] = {}
        for name, model in models.items():
            earlier = "@" in name  # a version that an ordinary wheel still holds, and a slim one does without
            for values in model["files"].values():
                if "bundled" in values and values["size"] > SMALL:
                    path = f"grepq_iqa/{values['bundled']}"
                    left_out[path] = left_out.get(path, False) or "repo" in values or earlier
        unpublished = sorted(path for path, published in left_out.items() if not published)
        if unpublished:
            raise SystemExit(
                f"a slim wheel leaves out {', '.join(unpublished)}, which weights.json does not find on the Hub: "
                "publish first: python -m grepq_iqa.training publish MODEL --repo-id OWNER/NAME --manifest weights.json"
            )
        self.build_config.target_config.setdefault("exclude", [])
        self.build_config.target_config["exclude"] += sorted(left_out)
