"""What a finished training of a high-level encoder leaves for ``export``: weights, prompts, config."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing, write_atomically
from grepq_iqa.training.run_record import RECORD, read_record

CONFIG, TOWER, PROMPTS = "high_level.json", "tower.safetensors", "prompts.safetensors"


@dataclass(frozen=True)
class HighLevelRun:
    """What a run left.

    Attributes:
        encoder: in evaluation mode.
        config: its part of config.json.
        prompts: name to unit vector.
        record: of the run, see `grepq_iqa.training.run_record`.
    """

    encoder: HighLevelEncoder
    config: dict[str, Any]
    prompts: dict[str, Tensor]
    record: dict[str, Any]


def write_encoder(encoder: HighLevelEncoder, config: dict[str, Any], prompts: dict[str, Tensor], out: Path) -> None:
    """Leave a trained encoder in ``out``, and no record of an earlier one: `write_record` then tells of this."""
    (out / RECORD).unlink(missing_ok=True)
    with replacing(out / TOWER) as beside:
        save_file({name: tensor.contiguous() for name, tensor in encoder.tower.state_dict().items()}, beside)
    with replacing(out / PROMPTS) as beside:
        save_file({name: vector.contiguous() for name, vector in prompts.items()}, beside)
    write_atomically(out / CONFIG, json.dumps(config, indent=2) + "\n")


def read_high_level(out: Path) -> HighLevelRun:
    """The encoder and the record in ``out``.

    Raises:
        UsageError: training has not come to its end there.
    """
    record = read_record(out)
    config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    if "config" in config:
        raise UsageError(f"{out} was trained by version 0.1: run `high-level` again there with --resume")
    encoder = HighLevelEncoder(config)
    encoder.tower.load_state_dict(load_file(out / TOWER))
    return HighLevelRun(encoder.eval(), config, load_file(out / PROMPTS), record)
