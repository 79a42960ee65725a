"""One small training loop for both encoders. It knows no model: what differs comes in as arguments.

Checkpoints hold model, optimizer, schedule and step. They are written beside the old one and moved into place, so a
kill at any moment leaves a whole one; data are a function of the step, so a resumed run repeats the same loss curve.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from grepq_iqa.errors import UsageError

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class LoopSettings:
    """How to run.

    Attributes:
        out: folder for ``metrics.jsonl``, TensorBoard events and checkpoints.
        steps: optimizer steps in all.
        batch_size: items of the data set a step.
        save_every: steps between checkpoints.
        workers: processes that prepare data; 0 prepares them in this one.
        mixed_precision: "no", "bf16" or "fp16", as in accelerate.
        identity: what the run depends on, JSON-ready; a checkpoint of another is not gone on from.
    """

    out: Path
    steps: int
    batch_size: int
    save_every: int = 100
    workers: int = 1
    mixed_precision: str = "no"
    identity: Mapping[str, Any] = field(default_factory=dict)


def run(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Batch], tuple[Tensor, dict[str, float]]],
    data: Dataset[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: LoopSettings,
    *,
    resume: bool = False,
) -> None:
    """Train ``model`` in place for ``settings.steps`` steps.

    Args:
        loss_of: model and batch to the loss, a scalar with gradient, and further figures for the metrics file.
        data: item ``k`` must depend on ``k`` only; step ``s`` takes items ``s * batch_size ...``.
        optimizer, schedule: stepped once a batch.
        settings: the rest.
        resume: continue from the last checkpoint in ``settings.out``, if there is one.

    Raises:
        UsageError: the checkpoint there is that of other settings or data.
        FloatingPointError: the loss became infinite or NaN.
    """
    AcceleratorState._reset_state()  # else an earlier run's precision would be this process's for good
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    settings.out.mkdir(parents=True, exist_ok=True)
    checkpoint = last_checkpoint(settings.out) if resume else None
    done = steps_done(settings) if resume else 0
    left = Subset(data, range(done * settings.batch_size, settings.steps * settings.batch_size))
    loader = DataLoader(left, settings.batch_size, num_workers=settings.workers, persistent_workers=False)
    model, optimizer, schedule, loader = accelerator.prepare(model, optimizer, schedule, loader)
    if checkpoint:
        accelerator.load_state(str(checkpoint))
    metrics = _Metrics(settings.out, done, enabled=accelerator.is_main_process)
    model.train()
    for step, batch in enumerate(loader, start=done + 1):
        started = time.monotonic()
        loss, figures = loss_of(model, batch)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss became {loss.item()} at step {step}; lower the learning rate")
        row = {"step": step, "loss": loss.item(), "lr": schedule.get_last_lr()[0], **figures}
        metrics.add(row | {"seconds": round(time.monotonic() - started, 3)})
        if step % settings.save_every == 0 or step == settings.steps:
            _save(accelerator, settings, step)
    metrics.close()


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: int, final_ratio: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over ``warmup`` steps, then a cosine down to ``final_ratio`` of the rate at the last step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint in ``out``; the old one where a kill fell between the two moves of a save."""
    folders = (out / name for name in ("checkpoint", "checkpoint.old"))
    return next((folder for folder in folders if (folder / "step.json").exists()), None)


def steps_done(settings: LoopSettings) -> int:
    """The steps of the last checkpoint, 0 where there is none.

    Raises:
        UsageError: it is that of other settings or data.
    """
    checkpoint = last_checkpoint(settings.out)
    if checkpoint is None:
        return 0
    stored = json.loads((checkpoint / "step.json").read_text(encoding="utf-8"))
    known, wanted = stored.get("identity"), json.loads(json.dumps(dict(settings.identity)))
    if known is not None and known != wanted:
        differ = [key for key in sorted(known.keys() | wanted.keys()) if known.get(key) != wanted.get(key)]
        raise UsageError(
            f"{settings.out} holds a checkpoint of another run ({', '.join(differ)} differ): give another --out, or "
            "run without --resume to begin anew"
        )
    return int(stored["step"])


def _save(accelerator: Accelerator, settings: LoopSettings, step: int) -> None:
    """Write the checkpoint beside the old one, then swap; a kill between the two moves leaves the old one findable."""
    accelerator.wait_for_everyone()
    fresh, current, old = (settings.out / name for name in ("checkpoint.new", "checkpoint", "checkpoint.old"))
    accelerator.save_state(str(fresh))
    if accelerator.is_main_process:
        record = {"step": step, "identity": dict(settings.identity)}
        (fresh / "step.json").write_text(json.dumps(record), encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.replace(old)
        fresh.replace(current)
        shutil.rmtree(old, ignore_errors=True)


class _Metrics:
    """One JSON line a step, and TensorBoard where it is installed. Lines past a resumed checkpoint are dropped."""

    def __init__(self, out: Path, done: int, *, enabled: bool) -> None:
        self._file, self._board = None, None
        if not enabled:
            return
        path = out / "metrics.jsonl"
        kept = []
        if done and path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut in two
                    continue
                if row["step"] <= done:
                    kept.append(line)
        path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1)
        except ImportError:
            self._board = None

    def add(self, row: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
