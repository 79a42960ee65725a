"""Pooled features of a frozen tower, kept on disk under what they depend on, so that a killed run goes on where it was.

They depend on the content of the photographs, the tower's weights, the recipe and the version of the code: where one of
these changes, they are made anew under another name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.pooled_efficientnet import PooledEfficientNet
from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing
from grepq_iqa.training.data.captions import Steps
from grepq_iqa.training.data.pictures import central_square
from grepq_iqa.training.data.prepare import Photograph, Prepared
from grepq_iqa.training.data.severity_series import make_severity_series
from grepq_iqa.training.high_level.likeness import clean_copies
from grepq_iqa.training.run_record import run_key

SHARD = 50


@dataclass(frozen=True)
class PooledSeries:
    """Pooled features of severity series.

    Attributes:
        pooled: ``(series, pictures, d)`` float32.
        steps: of every picture.
        clean_start: ``(series,)`` bool.
    """

    pooled: Tensor
    steps: list[list[Steps]]
    clean_start: Tensor


@torch.inference_mode()
def pool_severity_series(
    encoder: HighLevelEncoder,
    pristine: Prepared,
    unlabeled: Prepared,
    out: Path,
    *,
    series: int,
    crop: int,
    seed: int,
    weights: str,
    on_shard: Callable[[int], None] | None = None,
) -> PooledSeries:
    """Make ``series`` severity series and pool their features; shards in ``out`` that exist are not made again.

    Args:
        encoder: whose tower pools.
        pristine, unlabeled: photographs that series start from.
        out: folder of shards.
        series, crop, seed: how many, of which side, and from which seed.
        weights: what is known of the encoder, see `pool_photographs`.
        on_shard: told how many there are.

    Raises:
        UsageError: the tower has no pooled features.
    """
    tower = encoder.tower
    if not isinstance(tower, PooledEfficientNet):
        raise UsageError("only an EfficientNet has pooled features; CLIP's tower is trained whole, by --recipe paper")
    key = run_key(pristine.sha256, unlabeled.sha256, crop, seed, weights)
    folder = out / f"severity_series-{key}"
    shards = []
    for start in range(0, series, SHARD):
        members = range(start, min(series, start + SHARD))
        path = folder / f"{members[0]:05d}-{members[-1]:05d}.safetensors"
        if not path.exists():
            _write_shard(path, encoder, tower, pristine.paths, unlabeled.paths, members, crop, seed)
        shards.append(_read_shard(path))
        if on_shard:
            on_shard(members[-1] + 1)
    return PooledSeries(
        torch.cat([shard.pooled for shard in shards]),
        [steps for shard in shards for steps in shard.steps],
        torch.cat([shard.clean_start for shard in shards]),
    )


def pool_photographs(
    pool: Callable[[Tensor], Tensor], photographs: Sequence[Photograph], out: Path, weights: str
) -> Tensor:
    """Features ``(n, d)`` of the central squares of photographs, from the file that keeps them where it is there.

    Args:
        pool: makes ``(1, d)`` of ``(1, 3, H, W)`` in [0, 1].
        photographs: which.
        out: folder of that file.
        weights: tells apart what ``pool`` computes with: a hash of tensors and of what is done with them.
    """
    key = run_key([photograph.sha256 for photograph in photographs], weights)
    squares = (central_square(Path(photograph.path)) for photograph in photographs)
    return _pooled(pool, squares, out / f"photographs-{key}.safetensors")


def pool_clean_copies(
    pool: Callable[[Tensor], Tensor], pristine: Prepared, out: Path, weights: str, *, copies: int, seed: int
) -> Tensor:
    """The same ``(n * copies, d)`` of `grepq_iqa.training.high_level.likeness.clean_copies`."""
    key = run_key(pristine.sha256, weights, copies, seed)
    return _pooled(pool, clean_copies(pristine.paths, copies, seed), out / f"clean_copies-{key}.safetensors")


@torch.inference_mode()
def _pooled(pool: Callable[[Tensor], Tensor], pictures: Iterable[Tensor], path: Path) -> Tensor:
    if path.exists():
        return load_file(path)["pooled"]
    rows = [pool(picture[None].contiguous(memory_format=torch.channels_last))[0] for picture in pictures]
    pooled = torch.stack(rows)
    with replacing(path) as beside:
        save_file({"pooled": pooled}, beside)
    return pooled


def _write_shard(
    path: Path,
    encoder: HighLevelEncoder,
    tower: PooledEfficientNet,
    pristine: list[Path],
    unlabeled: list[Path],
    members: range,
    crop: int,
    seed: int,
) -> None:
    made = [make_severity_series(index, pristine, unlabeled, crop, seed) for index in members]
    pictures = [torch.from_numpy(one.pictures).permute(0, 3, 1, 2) for one in made]
    pooled = torch.stack(
        [tower.pooled(encoder.normalize(x.contiguous(memory_format=torch.channels_last))) for x in pictures]
    )
    metadata = {
        "steps": json.dumps([one.steps for one in made]),
        "clean_start": json.dumps([one.clean_start for one in made]),
    }
    with replacing(path) as beside:
        save_file({"pooled": pooled.contiguous()}, beside, metadata)


def _read_shard(path: Path) -> PooledSeries:
    with safe_open(path, framework="pt") as shard:
        notes = shard.metadata()
        steps = [[[(name, s) for name, s in picture] for picture in series] for series in json.loads(notes["steps"])]
        return PooledSeries(shard.get_tensor("pooled"), steps, torch.tensor(json.loads(notes["clean_start"])))
