"""Pooled statistics of a frozen tower over ladders, written in shards, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder, PooledTimmTower
from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.severity_series import make_ladder

SHARD = 50
SQUARE = 512


@dataclass(frozen=True)
class LadderStatistics:
    """Attributes:
    pooled: ``(ladders, pictures, d)`` float32.
    steps: of every picture.
    clean_start: ``(ladders,)`` bool.
    """

    pooled: Tensor
    steps: list[list[Steps]]
    clean_start: Tensor


@torch.inference_mode()
def pool_ladders(
    encoder: HighLevelEncoder,
    pristine: list[Path],
    ordinary: list[Path],
    out: Path,
    *,
    ladders: int,
    crop: int,
    seed: int,
    on_shard: Callable[[int], None] | None = None,
) -> LadderStatistics:
    """Make ``ladders`` ladders and pool their statistics; shards in ``out`` that exist are not made again."""
    tower = encoder.tower
    if not isinstance(tower, PooledTimmTower):
        raise UsageError("only a timm tower has pooled statistics; CLIP's is trained as a whole, by --recipe paper")
    out.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-ladders // SHARD)):
        path = out / f"ladders-{shard:05d}.safetensors"
        if not path.exists():
            members = [
                make_ladder(index, pristine, ordinary, crop, seed)
                for index in range(shard * SHARD, min(ladders, (shard + 1) * SHARD))
            ]
            pictures = [torch.from_numpy(member.pictures).permute(0, 3, 1, 2) for member in members]
            pooled = torch.stack(
                [tower.pooled(encoder.normalise(x.contiguous(memory_format=torch.channels_last))) for x in pictures]
            )
            metadata = {
                "steps": json.dumps([member.steps for member in members]),
                "clean_start": json.dumps([member.clean_start for member in members]),
            }
            fresh = path.with_suffix(".part")
            save_file({"pooled": pooled.contiguous()}, fresh, metadata)
            fresh.replace(path)
        if on_shard:
            on_shard(min(ladders, (shard + 1) * SHARD))
    return read_ladders(out, ladders)


def read_ladders(out: Path, ladders: int) -> LadderStatistics:
    """The first ``ladders`` ladders that :func:`pool_ladders` wrote to ``out``."""
    pooled: list[Tensor] = []
    steps: list[list[Steps]] = []
    clean: list[bool] = []
    for path in sorted(out.glob("ladders-*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            pooled.append(shard.get_tensor("pooled"))
            steps += [[[(n, s) for n, s in p] for p in ladder] for ladder in json.loads(shard.metadata()["steps"])]
            clean += json.loads(shard.metadata()["clean_start"])
    return LadderStatistics(torch.cat(pooled)[:ladders], steps[:ladders], torch.tensor(clean[:ladders]))


@torch.inference_mode()
def pool_photographs(pool: Callable[[Tensor], Tensor], photographs: list[Path], out: Path) -> Tensor:
    """Statistics ``(n, d)`` of the central squares of photographs, at most ``SQUARE`` pixels a side after shrinking.

    ``pool`` makes ``(1, d)`` of ``(1, 3, S, S)`` in [0, 1]. They are kept in the file ``out`` and read from it by the
    next run over as many photographs.
    """
    if out.exists():
        found = load_file(out)["pooled"]
        if len(found) == len(photographs):
            return found
    rows = []
    for path in photographs:
        image = central_square(path)[None].contiguous(memory_format=torch.channels_last)
        rows.append(pool(image)[0])
    fresh = out.with_suffix(".part")
    save_file({"pooled": torch.stack(rows)}, fresh)
    fresh.replace(out)
    return torch.stack(rows)


def central_square(path: Path) -> Tensor:
    """The middle of a photograph, ``(3, S, S)`` with S at most ``SQUARE``; small ones are not enlarged."""
    with Image.open(path) as image:
        square = ImageOps.fit(image.convert("RGB"), (min(SQUARE, *image.size),) * 2, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 255
