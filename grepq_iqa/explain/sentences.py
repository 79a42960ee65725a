"""Amounts in words that a person understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grepq_iqa.results import Reason

NOTHING = "Nothing stands out."
_TITLES = {"color_cast": "color cast", "over_sharpening": "over-sharpening"}
_BLURRED = {"motion_blur": "shaken or moving", "defocus": "out of focus", "smear": "fine detail is smeared"}


def title(name: str) -> str:
    """How a sentence calls a reason: "color cast"."""
    return _TITLES.get(name, name)


def describe(group: str, amount: float, kind: str, hue: str = "") -> str:
    """What is to be seen, without a full stop: "blocky, like JPEG quality 25".

    Args:
        group: of `grepq_iqa.explain.network.GROUPS`.
        amount: on its scale.
        kind: the family of distortions that it looks most like.
        hue: of a color cast, "green".
    """
    match group:
        case "sharpness":
            return f"{_BLURRED.get(kind, 'soft')}, like a Gaussian blur of {amount:.1f} pixels"
        case "noise":
            look = "specks of single pixels" if kind == "impulse_noise" else "grainy"
            return f"{look}, like noise of {amount:.0f} in 255 levels"
        case "compression":
            look = {"jpeg": "blocky", "quantization": "banded, too few tones"}.get(kind, "lost and ringing detail")
            return f"{look}, like JPEG quality {amount:.0f}"
        case "dark":
            return f"too dark by about {amount:.1f} stops"
        case "bright":
            return f"too bright by about {amount:.1f} stops, highlights burnt out"
        case "contrast":
            return f"{'hazy' if kind == 'haze' else 'flat'}, {amount:.0f} % of ordinary contrast"
        case "color_cast":
            return f"a {hue or 'tinted'} tint, like a color channel off by {amount:.0f} %"
        case "dull":
            return "no color" if amount < 3 else f"dull, {amount:.0f} % of ordinary color"
        case "garish":
            return f"garish, {amount:.0f} % of ordinary color"
        case "over_sharpening":
            return f"halos along edges, like an unsharp mask of {amount:.0f} %"
    return f"enlarged, like a picture {amount:.1f} times smaller"


def summary(reasons: Sequence[Reason]) -> str:
    """One line: the most serious reason and the names of the next."""
    if not reasons:
        return NOTHING
    further = list(dict.fromkeys(title(reason.name) for reason in reasons[1:]))
    further = [name for name in further if name != title(reasons[0].name)][:2]
    also = f"; also {' and '.join(further)}" if further else ""
    return f"Mostly {reasons[0].sentence}{also}."
