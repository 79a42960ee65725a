"""From a command's options to the model that they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ


def load_model(
    name: str | None,
    *,
    engine: str,
    device: str,
    dtype: str,
    max_side: int | None,
    max_pixels: int | None,
) -> GRepQ:
    """The model, which is imported only now.

    Args:
        name: as for `GRepQ.from_pretrained`, as are ``engine``, ``device``, ``dtype`` and ``max_side``.
        engine, device, dtype, max_side: the options of these names.
        max_pixels: larger pictures are refused; None keeps the model's own limit.

    Raises:
        WeightsError, UsageError: as there.
    """
    from grepq_iqa.model import GRepQ

    model = GRepQ.from_pretrained(name, engine=engine, device=device, dtype=dtype, max_side=max_side)
    model.max_pixels = max_pixels or model.max_pixels
    return model
