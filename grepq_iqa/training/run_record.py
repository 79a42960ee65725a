"""What a training run did, in ``run.json``, written by the run itself; ``export`` makes a model's provenance of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of, write_atomically
from grepq_iqa.training.data.prepare import Prepared

RECORD = "run.json"


def describe_data(**data: Prepared) -> list[dict[str, Any]]:
    """For each role, such as "pristine": name, license, count, hash, and how many photographs were held out."""
    return [
        {"role": role, "name": prepared.name, "license": prepared.license, "count": len(prepared.photographs)}
        | {"sha256": prepared.sha256}
        | ({"held_out": prepared.held_out} if prepared.held_out else {})
        for role, prepared in data.items()
    ]


def write_record(
    out: Path,
    settings: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
    *,
    recipe_name: str | None,
    base_model: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    mixed_precision: Mapping[str, str],
    steps: Mapping[str, int],
    reads: Mapping[str, str | None] | None = None,
) -> None:
    """Leave ``run.json`` in ``out``.

    Args:
        out: folder of the run.
        settings: of the recipe, section by section.
        data: from `describe_data`.
        recipe_name: of the recipe, as config.json and the model card call it; None: settings without a name.
        base_model: where the weights came from that training began with, or rested on; None: random ones.
        mixed_precision: as given to the loop, of each trained part.
        steps: taken, likewise.
        reads: hashes of other trainings' results that this one rested on; None: on none.
    """
    record = {
        "recipe": recipe_name,
        "settings": settings,
        "data": data,
        "base_model": base_model,
        "mixed_precision": mixed_precision,
        "steps": steps,
        "code_version": __version__,
        **({} if reads is None else {"reads": reads}),
    }
    write_atomically(out / RECORD, json.dumps(record, indent=2) + "\n")


def read_record(out: Path) -> dict[str, Any]:
    """What `write_record` left in ``out``.

    Raises:
        UsageError: nothing is there, because training has not come to its end, or was done by version 0.1.
    """
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{out} holds no {RECORD}: its training has not come to its end (or was done by version 0.1; run the same "
            "command with --resume)"
        ) from None
    except ValueError as error:
        raise UsageError(f"{out / RECORD} is broken ({error}): run the training again with --resume") from error
    return record


def run_key(*parts: object) -> str:
    """12 hex digits that change with any of ``parts`` (JSON-ready) and with the version of the code."""
    text = json.dumps([*parts, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def list_hash(paths: Iterable[Path], scores: Iterable[float]) -> str:
    """SHA-256 over the content of every photograph and its score, in the order of the table; 64 hex digits."""
    digest = hashlib.sha256()
    for path, mos in zip(paths, scores, strict=True):
        digest.update(f"{sha256_of(path)} {float(mos)!r}\n".encode())
    return digest.hexdigest()


def state_hash(module: nn.Module) -> str:
    """SHA-256 over names and values of a module's tensors."""
    digest = hashlib.sha256()
    tensors: dict[str, Tensor] = module.state_dict()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
