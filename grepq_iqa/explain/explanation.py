"""One picture -> why it is poor, on a screen and at its own pixels, and where.

Everything is measured in the pixels, by NumPy and SciPy alone, so that every model gives the same reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from grepq_iqa.data.decoding.pillow_images import MOST_NATIVE_PIXELS
from grepq_iqa.data.images import DecodedImage, decode_image
from grepq_iqa.data.named_bytes import NamedBytes
from grepq_iqa.errors import ImageError
from grepq_iqa.explain.measures import MEASURES, measure
from grepq_iqa.explain.network import GROUPS, Network, Severities, load_network
from grepq_iqa.explain.quality_map import quality_map
from grepq_iqa.explain.scales import NAMES, amount_of
from grepq_iqa.explain.sentences import describe, summary, title
from grepq_iqa.explain.views import SCREEN, Pixels, channels_last, native_tiles, shrunk
from grepq_iqa.results import Explanation, Reason, Score

NATIVE_THRESHOLDS = {"sharpness": 1.5, "noise": 2.5, "compression": 1.5, "upscaling": 2.5}
"""Severities above which a thing is named though it shows at 100 % only. They are higher than a screen's, because
cameras' own pixels are never as clean as shrunk ones."""
FROM_NATIVE = ("compression", "upscaling")
"""Amounts that are properties of the file's own pixels: shrinking wipes their traces."""
AT_NATIVE = " at 100 %"
SATURATIONS = ("dull", "garish")


def explain_image(
    source: Any, score: Callable[[Any], Score], *, max_side: int | None, max_pixels: int, map: bool = False
) -> Explanation:
    """Explain one source that :func:`~grepq_iqa.load_image` takes.

    Args:
        source: a stream is read once.
        score: zero-shot quality of a source.
        max_side: what scoring shrinks pictures to; None never does.
        max_pixels: larger pictures are judged at a reduced size where they are JPEGs, else refused.
        map: whether to tell where, too.

    Raises:
        ImageError: it cannot be used.
    """
    if hasattr(source, "read") and not hasattr(source, "getpixel"):
        source = _read_again(source)
    native, screen = decode_views(source, max_pixels)
    same = max(native.values.shape[-2:]) <= (max_side or max(native.values.shape[-2:]))
    found = score(native.values.transpose(1, 2, 0)).with_warnings(native.warnings) if same else score(source)
    return explain_views(native, screen, found, map=map)


def _read_again(stream: Any) -> Any:
    """A stream that can be read several times, from its beginning."""
    try:
        stream.seek(0)
    except (AttributeError, OSError):  # a pipe
        return NamedBytes(stream.read(), str(getattr(stream, "name", "<stream>")))
    return stream


def decode_views(source: Any, max_pixels: int) -> tuple[DecodedImage, Pixels]:
    """The picture at its own pixels, and ``(h, w, 3)`` as a screen shows it.

    Raises:
        ImageError: it cannot be used.
    """
    try:
        native = decode_image(source, max_pixels=min(max_pixels, MOST_NATIVE_PIXELS))
    except ImageError:  # too large, unless the next line says more
        native = decode_image(source, max_side=int(MOST_NATIVE_PIXELS**0.5), max_pixels=max_pixels)
    pixels = native.values
    return native, shrunk(channels_last(pixels) if pixels[0].size <= SCREEN**2 else pixels.transpose(1, 2, 0))


def explain_views(native: DecodedImage, screen: Pixels, score: Score, *, map: bool = False) -> Explanation:
    """What the views show, beside the picture's score."""
    reasons, amounts = judge_views(native, screen)
    return Explanation(reasons, amounts, summary(reasons), quality_map(screen) if map else None, score)


def judge_views(native: DecodedImage, screen: Pixels) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    """What is wrong, the most serious first, and all amounts in the order of `NAMES`; no model is needed for these."""
    network = load_network()
    pixels = native.values
    measures = measure(screen)
    hue = _hue(measures)
    seen = network.severities(measures)
    close = seen
    if max(pixels.shape[-2:]) > SCREEN:
        close = _closest([network.severities(measure(tile)) for tile in native_tiles(pixels, screen)])
    shown = seen.groups | {name: close.groups[name] for name in FROM_NATIVE}
    reasons = [_reason(network, group, _severer(group, seen, close), hue) for group in network.named(seen.groups)]
    named = {reason.name for reason in reasons}
    for group in sorted(NATIVE_THRESHOLDS, key=lambda group: -close.groups[group]):
        if close is not seen and group not in named and close.groups[group] > NATIVE_THRESHOLDS[group]:
            reasons.append(_reason(network, group, close, hue, where=AT_NATIVE))
    both = Severities(shown, seen.kinds | {name: close.kinds[name] for name in FROM_NATIVE})
    amounts = []
    for name in NAMES:
        group = name if name in GROUPS else max(SATURATIONS, key=lambda side: shown[side])
        of_name = next((reason for reason in reasons if reason.name == name and AT_NATIVE not in reason.sentence), None)
        amounts.append(of_name or _calm(_reason(network, group, both, hue)))
    return tuple(reasons), tuple(amounts)


def _severer(group: str, seen: Severities, close: Severities) -> Severities:
    """The reading to go by: of what shrinking wipes, the one that shows more of it."""
    return close if group in FROM_NATIVE and close.groups[group] > seen.groups[group] else seen


def _reason(network: Network, group: str, severities: Severities, hue: str, where: str = "") -> Reason:
    severity = severities.groups[group]
    amount = amount_of(group, severity)
    name = "saturation" if group in SATURATIONS else group
    sentence = f"{title(name)}{where}: {describe(group, amount, severities.kinds[group], hue)}"
    return Reason(name, amount, network.percentile(group, severity), sentence)


def _calm(reason: Reason) -> Reason:
    """The same for what does not stand out."""
    return replace(reason, sentence=f"{title(reason.name)}: nothing to see")


def _closest(tiles: list[Severities]) -> Severities:
    """One judgement of cuts at 100 %: as sharp as the sharpest, since a photograph need not be sharp everywhere."""
    groups = {
        group: float((np.min if group == "sharpness" else np.median)([tile.groups[group] for tile in tiles]))
        for group in GROUPS
    }
    kinds = {group: max(tiles, key=lambda tile: tile.groups[group]).kinds[group] for group in GROUPS}
    return Severities(groups, kinds)


def _hue(measures: Pixels) -> str:
    """The color that the picture leans to, seen in what should be gray."""
    by_name = dict(zip(MEASURES, measures.tolist(), strict=True))
    red, blue = (by_name[f"gray_{side}"] + by_name[f"near_gray_{side}"] for side in ("red", "blue"))
    channels = {"red": red, "green": 0.0, "blue": blue}
    mean = (red + blue) / 3
    name, lean = max(channels.items(), key=lambda item: abs(item[1] - mean))
    opposite = {"red": "cyan", "green": "magenta", "blue": "yellow"}
    return name if lean > mean else opposite[name]
