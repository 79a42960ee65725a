"""Training small networks on tables of measures or features: one loop for all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LEARNING_RATE = 1e-3


def train_small(
    network: nn.Sequential,
    rows: int,
    loss_of: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    batch: int,
    highest_rate: float,
    weight_decay: float,
) -> nn.Sequential:
    """``network``, trained in place by AdamW and one cycle of its rate, and in evaluation mode.

    Random numbers come from torch's own generator, seeded before the network was made.

    Args:
        network: to train.
        rows: of the table.
        loss_of: indices of a batch ``(batch,)`` to its loss.
        epochs: passes over the table, each in an order of its own, without the rest that fills no batch.
        batch: rows a step.
        highest_rate: of the cycle.
        weight_decay: of AdamW.
    """
    steps = max(1, rows // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest_rate, total_steps=epochs * steps)
    for _ in range(epochs):
        for index in torch.split(torch.randperm(rows), batch)[:steps]:
            loss = loss_of(index)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()
