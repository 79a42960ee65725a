"""Activation checkpointing: blocks are computed twice and their maps kept once.

A block that is computed a second time would update BatchNorm's running statistics a second time, and these are part of
the paper's result; so they are left alone then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let each block keep its input only, and compute the rest again for the gradients."""
    for block in blocks:
        checkpoint_method(block, "forward")


def checkpoint_method(module: nn.Module, name: str) -> None:
    """The same for one method that takes a tensor, such as a tower's stem."""
    method = getattr(module, name)
    setattr(module, name, partial(checkpoint, method, use_reentrant=False, context_fn=partial(_contexts, module)))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _without_updates(block)


@contextmanager
def _without_updates(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
