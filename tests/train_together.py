"""Trainings for `test_training_processes.py`: run alone, and by `accelerate launch` in two processes.

    accelerate launch --num_processes 2 train_together.py PREPARED CLIP OUT

BatchNorm is frozen, because each process would normalize by its own share of a batch (on GPUs it is synchronized).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from grepq_iqa.training import loop
from grepq_iqa.training.data.prepare import read_index
from grepq_iqa.training.high_level.clip_tower import ClipRecipe, train_clip_tower
from grepq_iqa.training.low_level import train_low_level
from grepq_iqa.training.processes import count, is_first, part, wait_for_all
from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe

STEPS = 5
# Batches of 3 and then of the 1 photograph that is left of 4: shares of 2 and 1, and of 1 and nothing.
LOW = {"crop": 64, "grid": 1, "distortions_per_image": 2, "levels_per_distortion": 1, "batch_images": 3}
LOW_LEVEL = load_recipe("compact", "low_level", LowLevelRecipe, **LOW, steps=STEPS, warmup_steps=2, short_batches=True)
HIGH_LEVEL = load_recipe(
    "paper", "high_level", ClipRecipe, batch_size=4, extremes=2, crop=64, steps=3, positional_embedding=False,
    learning_rate=1e-4, warmup_epochs=1.0,
)  # fmt: skip


class Cut(Exception):
    """Ends a run in the middle, in every process."""


def main() -> None:
    prepared, clip, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    _BatchNorm.train = lambda self, mode=True: nn.Module.train(self, False)
    photographs = read_index(prepared)
    train_low_level(photographs, LOW_LEVEL, out / "low", workers=0, save_every=2)
    written = loop._Metrics.add

    def add(self, row):
        written(self, row)
        if row["step"] == 3:
            raise Cut

    loop._Metrics.add = add
    try:
        train_low_level(photographs, LOW_LEVEL, out / "resumed", workers=0, save_every=2)
    except Cut:
        loop._Metrics.add = written
    train_low_level(photographs, LOW_LEVEL, out / "resumed", workers=0, save_every=2, resume=True)
    encoder = train_clip_tower(photographs, HIGH_LEVEL, clip, out / "high", workers=0, save_every=2)
    if is_first():
        torch.save({name: tensor.clone() for name, tensor in encoder.state_dict().items()}, out / "high.pt")
    if part():  # the others have gone, and are not waited for
        assert count() == 1 and is_first() and part()
        train_low_level(photographs, LOW_LEVEL, out / "alone", workers=0, save_every=2)
        wait_for_all()
    else:
        assert not is_first()
        wait_for_all()


if __name__ == "__main__":
    main()
