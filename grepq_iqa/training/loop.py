"""One small training loop for both encoders. It knows no model: what differs comes in as arguments.

Checkpoints hold model, optimizer, schedule and step. They are written beside the old one and moved into place, so a
kill at any moment leaves a whole one; data are a function of the step, so a resumed run repeats the same loss curve.

Several processes (`accelerate launch`) share every batch: the same items take part in a step however many there are,
the learning rate advances once a step, and one process writes. On GPUs BatchNorm is then computed over the whole batch.
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
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from grepq_iqa.errors import UsageError
from grepq_iqa.training.processes import share_of
from grepq_iqa.training.shared_memory import warn_if_small

Batch = dict[str, Tensor]

AVERAGE = "average.safetensors"


@dataclass(frozen=True)
class LoopSettings:
    """How to run.

    Attributes:
        out: folder for ``metrics.jsonl``, TensorBoard events and checkpoints.
        steps: optimizer steps in all.
        batch_size: items of the data set a step, all processes together.
        save_every: steps between checkpoints.
        workers: processes that prepare data; 0 prepares them in this one.
        mixed_precision: "no", "bf16" or "fp16", as in accelerate.
        identity: what the run depends on, JSON-ready; a checkpoint of another is not gone on from.
        epoch_items: items of an epoch, whose last batch is then short; 0: batches run on into the next epoch.
        averaging: decay of an exponential moving average of weights and running statistics, kept in checkpoints as
            ``average.safetensors``; 0 keeps none.
    """

    out: Path
    steps: int
    batch_size: int
    save_every: int = 100
    workers: int = 1
    mixed_precision: str = "no"
    identity: Mapping[str, Any] = field(default_factory=dict)
    epoch_items: int = 0
    averaging: float = 0.0

    def items(self, step: int) -> range:
        """The items of step ``step``, counted from 0."""
        size, epoch = self.batch_size, self.epoch_items
        if not epoch:
            return range(step * size, (step + 1) * size)
        passed, position = divmod(step, math.ceil(epoch / size))
        start = passed * epoch
        return range(start + position * size, start + min((position + 1) * size, epoch))


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
        loss_of: model and this process's share of a batch to its mean loss, a scalar with gradient, and further
            figures for the metrics file, which takes the first process's.
        data: item ``k`` must depend on ``k`` only; step ``s`` takes the items that ``settings`` name.
        optimizer, schedule: stepped once a batch.
        settings: the rest.
        resume: continue from the last checkpoint in ``settings.out``, if there is one.

    Raises:
        UsageError: the checkpoint there is that of other settings or data.
        FloatingPointError: the loss became infinite or NaN.
    """
    AcceleratorState._reset_state()  # else an earlier run's precision would be this process's for good
    # With batches that processes share, accelerate advances the schedule once a step; else once for every process.
    shared = DataLoaderConfiguration(split_batches=True)
    accelerator = Accelerator(mixed_precision=settings.mixed_precision, dataloader_config=shared)
    device, processes = accelerator.device, accelerator.num_processes
    settings.out.mkdir(parents=True, exist_ok=True)
    checkpoint = last_checkpoint(settings.out) if resume else None
    done = steps_done(settings) if resume else 0
    shares = [
        share_of(settings.items(step), accelerator.process_index, processes) for step in range(done, settings.steps)
    ]
    if processes > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    own = model
    average = _averaged(own, settings.averaging, device) if settings.averaging else None
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    if checkpoint:
        accelerator.load_state(str(checkpoint))
        if average is not None and (checkpoint / AVERAGE).exists():  # version 0.1 kept none: it begins here
            average.module.load_state_dict(load_file(checkpoint / AVERAGE))
            average.n_averaged.fill_(done)
    if settings.workers and shares:
        warn_if_small(data[shares[0][0][0]], settings.workers, settings.batch_size // processes)
    loader = DataLoader(
        data,
        batch_sampler=[items for items, _ in shares],
        num_workers=settings.workers,
        pin_memory=device.type == "cuda",
    )
    metrics = _Metrics(settings.out, done, enabled=accelerator.is_main_process)
    model.train()
    asked = time.monotonic()
    for step, (batch, (_, weight)) in enumerate(zip(loader, shares, strict=True), start=done + 1):
        started = time.monotonic()
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        mean, figures = loss_of(model, moved)
        loss = mean * weight
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(own)
        value = float(accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {step}; lower the learning rate")
        row = {"step": step, "loss": value, "lr": schedule.get_last_lr()[0], **figures}
        ended = time.monotonic()
        metrics.add(row | {"seconds": round(ended - started, 3), "waited": round(started - asked, 3)})
        if step % settings.save_every == 0 or step == settings.steps:
            _save(accelerator, settings, step, average)
        asked = time.monotonic()
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


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    """The weights that a checkpoint leaves for use: the averaged ones where the run averaged."""
    average = checkpoint / AVERAGE
    return load_file(average if average.exists() else checkpoint / "model.safetensors")


def _averaged(model: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """A moving average of ``model``. Buffers take part: BatchNorm's own are those of some ten batches."""
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, device=device, multi_avg_fn=update, use_buffers=True)


def _save(accelerator: Accelerator, settings: LoopSettings, step: int, average: AveragedModel | None) -> None:
    """Write the checkpoint beside the old one, then swap; a kill between the two moves leaves the old one findable."""
    accelerator.wait_for_everyone()
    fresh, current, old = (settings.out / name for name in ("checkpoint.new", "checkpoint", "checkpoint.old"))
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)  # what a run left that was killed here
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()  # every process leaves the state of its random numbers there
    if accelerator.is_main_process:
        record = {"step": step, "identity": dict(settings.identity)}
        if average is not None:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in average.module.state_dict().items()}
            save_file(tensors, fresh / AVERAGE)
        (fresh / "step.json").write_text(json.dumps(record), encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.replace(old)
        fresh.replace(current)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


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
