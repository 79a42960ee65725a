"""Several processes that train together, as `accelerate launch` starts them; alone, a process is the first of one."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch import Tensor

from grepq_iqa.errors import UsageError

_LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_parted: bool | None = None
"""After `part`: whether this process was the first."""


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return bool(PartialState().is_main_process) if _parted is None else _parted


def count() -> int:
    """How many processes train together."""
    return int(PartialState().num_processes) if _parted is None else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if _parted is None:
        PartialState().wait_for_everyone()


def part() -> bool:
    """End training together: the first process goes on alone, and does what it does as if it had been started alone.

    What the others were waiting for would never come otherwise, as the rest takes longer than they wait.

    Returns:
        Whether this is the first; the others are to do nothing more.
    """
    global _parted
    if _parted is None and count() > 1:
        wait_for_all()
        first = is_first()
        PartialState().destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        for name in _LAUNCH:  # else the next one to ask would begin a group anew
            os.environ.pop(name, None)
        _parted = first
    return is_first()


def first_before_others() -> AbstractContextManager[None]:
    """A block that the first process runs alone, and the others after it."""
    block: AbstractContextManager[None] = nullcontext() if _parted is not None else PartialState().main_process_first()
    return block


def require_equal_shares(items: int, what: str) -> None:
    """Refuse a batch that does not divide among the processes.

    Args:
        items: of a batch.
        what: what they are called, such as "photographs".

    Raises:
        UsageError: it does not.
    """
    if items % count():
        raise UsageError(
            f"a batch of {items} {what} does not divide among {count()} processes: start a number of them that does"
        )


def share_of(items: range, process: int, processes: int) -> tuple[list[int], float]:
    """Items of a global batch that one process takes, and how much its mean loss counts beside the others'.

    Weights make the mean over processes the mean over items. A process for which nothing is left computes one item
    with weight 0, since all must take part in every step.

    Args:
        items: of the global batch.
        process: which, from 0.
        processes: how many.
    """
    start, stop = (len(items) * edge // processes for edge in (process, process + 1))
    mine = list(items[start:stop])
    return mine or [items[0]], len(mine) * processes / len(items)


def gathered(mine: Tensor) -> Tensor:
    """The rows of all processes in their order, ``(n * processes, ...)`` of ``(n, ...)`` here; gradients flow back."""
    if count() == 1:
        return mine
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(mine.contiguous()))  # type: ignore[no-untyped-call]
