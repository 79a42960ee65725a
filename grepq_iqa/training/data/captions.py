"""How bad known distortions look together, as a number and as a sentence."""

from __future__ import annotations

import math

from grepq_iqa.training.data.distortions import DISTORTIONS

Steps = list[tuple[str, float]]
"""Distortions in the order of application, each with its severity, at most 5; empty for a clean picture."""

PROMPT_GOOD, PROMPT_BAD = "A good photo.", "A bad photo."

# Color and tone hurt less than lost detail does at the same severity.
_WEIGHTS = {
    "desaturation": 0.5,
    "color_cast": 0.6,
    "oversaturation": 0.6,
    "low_contrast": 0.8,
    "haze": 0.8,
    "overexposure": 0.9,
    "quantization": 0.9,
}
_ADVERBS = ("slight", "some", "clear", "strong", "extreme")


def distortion_strength(steps: Steps) -> float:
    """0 for a clean picture, towards 1 for a ruined one; distortions of several steps combine like fading light."""
    left = 1.0
    for name, severity in steps:
        left *= 1 - 0.85 * _WEIGHTS.get(name, 1.0) * severity / 5
    return 1 - left


def caption_of(steps: Steps) -> str:
    """A sentence that names the worst step: "A bad photo with strong motion blur."."""
    if not steps:
        return PROMPT_GOOD
    name, severity = max(steps, key=lambda step: _WEIGHTS.get(step[0], 1.0) * step[1])
    verdict = "fair" if distortion_strength(steps) < 0.3 else "bad"
    return f"A {verdict} photo with {_ADVERBS[math.ceil(severity) - 1]} {DISTORTIONS[name].noun}."


ATTRIBUTE_PROMPTS = {
    "sharpness": ("A sharp photo.", "A blurry photo."),
    "noisiness": ("A clean photo.", "A noisy photo."),
    "brightness": ("A bright photo.", "A dark photo."),
    "colorfulness": ("A vivid photo.", "A dull photo."),
}
"""Antonym pairs beside good and bad, stored with the model."""
