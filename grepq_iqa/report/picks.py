"""Bursts and near-duplicates among photographs, and the best of each.

Two photographs are takes of one moment if their bytes or features are equal, or if they show one scene from nearly one
place (`grepq_iqa.report.alignment`). Which pairs are compared is told by features and by capture time: what may be
copies (`grepq_iqa.calibration.groups`), the nearest few of each photograph, and its neighbors in time. Time also parts:
photographs whose camera says that they were taken farther apart than a gap are takes on purpose, however alike. What
cannot be compared (a file that cannot be read, a picture that shows nothing) is joined to nothing, and so is kept.

Thresholds were chosen by ``studies/picks.py`` on one half of `dev`; docs/picks.md has the figures of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.calibration.groups import Groups, find_links, joined
from grepq_iqa.calibration.regressor import Array, feature_statistics, standardize
from grepq_iqa.data.capture import Capture
from grepq_iqa.report.alignment import SIDE, Aligner, normalized

LIKENESS = 0.55
"""From which two pictures, of whose times nothing is known, show one scene."""
LIKENESS_IN_TIME = 0.35
"""Likewise of pictures taken within a gap, of which most do show one scene: 1 in 2,000 different ones are as alike."""
FARTHEST = 0.8
"""Root mean squared difference of standardized features up to which pictures are compared: 99 % of takes lie below."""
NEIGHBORS = 24
"""How many of the nearest are compared with each; longer bursts hang together by their members."""
NEIGHBORS_IN_TIME = 12
"""How many of those taken next are."""
GAP = 60.0
"""Seconds up to which photographs may be takes of one moment: people try again for about so long."""
COMPETES = 0.6
"""Share of the pixels of the largest of a group from which a picture may be its best: half-size copies look sharper."""

_TOGETHER = 256  # pictures whose transforms fit into what an `Aligner` keeps, twice

SAME_SCENE = "same scene"
SAME_BURST = "same scene at one time"
_WORDS = {
    "same bytes": "copies",
    "equal features": "copies",
    SAME_SCENE: "near-duplicates",
    SAME_BURST: "burst",
}
_CERTAIN = ("same bytes", "equal features")  # which hold whatever the clocks say


@dataclass(frozen=True)
class Frame:
    """What is known of one photograph, for grouping it.

    Attributes:
        capture: time, camera and size.
        thumbnail: ``(64 * 64,)`` of `grepq_iqa.data.thumbnails.gray_thumbnail`, or None.
        digest: of the file's bytes, or None.
        value: by which the best is picked; higher is better.
        is_link: whether the file is a symbolic link.
    """

    capture: Capture
    thumbnail: NDArray[np.float32] | None
    digest: str | None
    value: float
    is_link: bool = False


def group_frames(
    features: ArrayLike,
    frames: Sequence[Frame],
    *,
    feature_mean: ArrayLike | None,
    feature_scale: ArrayLike | None,
    gap: float = GAP,
) -> Groups:
    """Takes of one moment, as groups of rows.

    Args:
        features: ``(n, d)``.
        frames: ``(n,)``.
        feature_mean, feature_scale: ``(d,)``, over unlabeled in-the-wild images; None: of these.
        gap: seconds.

    Raises:
        UsageError: features that are not ``(n, d)``, or statistics that do not fit them.
    """
    X = np.asarray(features, dtype=np.float64)
    certain, pairs = candidates(X, frames, feature_mean=feature_mean, feature_scale=feature_scale, gap=gap)
    values = likenesses(pairs, frames)
    scene, burst = [], []
    for (i, j), value in zip(pairs.tolist(), values.tolist(), strict=True):
        if frames[i].capture.seconds_from(frames[j].capture) is not None:
            if value >= LIKENESS_IN_TIME:
                burst.append((i, j))
        elif value >= LIKENESS:
            scene.append((i, j))
    return joined(len(X), {**certain, SAME_SCENE: _as_array(scene), SAME_BURST: _as_array(burst)})


def candidates(
    features: Array,
    frames: Sequence[Frame],
    *,
    feature_mean: ArrayLike | None,
    feature_scale: ArrayLike | None,
    gap: float = GAP,
) -> tuple[dict[str, NDArray[np.intp]], NDArray[np.intp]]:
    """Pairs that are copies for certain, by reason, and pairs ``(k, 2)`` to compare; arguments as of `group_frames`."""
    links = find_links(
        features,
        [frame.digest for frame in frames],
        thumbnails=[None if frame.thumbnail is None else _squeezed(frame.thumbnail) for frame in frames],
        feature_mean=feature_mean,
        feature_scale=feature_scale,
    )
    certain = {reason: links.pop(reason) for reason in _CERTAIN}
    if not len(features):
        return certain, _as_array([])
    mean, scale = feature_statistics(features, feature_mean, feature_scale)
    found = set(nearest_pairs(standardize(features, mean, scale), NEIGHBORS, FARTHEST))
    found |= set(_neighbors_in_time(frames, gap))
    found |= {(min(pair), max(pair)) for pairs in links.values() for pair in map(tuple, pairs.tolist())}
    return certain, _within(sorted(found), frames, gap)


def likenesses(pairs: NDArray[np.intp], frames: Sequence[Frame]) -> NDArray[np.float64]:
    """How alike the pictures of pairs ``(k, 2)`` are, 0 to 1: ``(k,)``."""
    aligner = Aligner([None if frame.thumbnail is None else normalized(frame.thumbnail) for frame in frames])
    values = np.zeros(len(pairs))
    for at in np.lexsort((pairs[:, 1] // _TOGETHER, pairs[:, 0] // _TOGETHER)):  # pictures that meet again stay at hand
        values[at] = aligner.likeness(int(pairs[at, 0]), int(pairs[at, 1]))
    return values


def best_of(rows: Sequence[int], frames: Sequence[Frame]) -> int:
    """The best of a group: the highest value among those that compete by their size.

    Of equals the one with more pixels, then a file before a link, then the first.
    """
    areas = {i: _area(frames[i]) for i in rows}
    largest = max((area for area in areas.values() if area is not None), default=0)
    able = [i for i in rows if (area := areas[i]) is None or area >= COMPETES * largest]
    return max(able, key=lambda i: (frames[i].value, areas[i] or 0, not frames[i].is_link, -i))


def in_words(reasons: Iterable[str]) -> str:
    """Why photographs are one group, in a few words: "burst", "copies", "near-duplicates", or several of them."""
    found = {_WORDS[reason] for reason in reasons}
    if len(found) > 1:
        found -= {"near-duplicates"}  # which bursts and copies are, too
    return " and ".join(sorted(found))


def nearest_pairs(Z: Array, count: int, farthest: float) -> list[tuple[int, int]]:
    """Pairs ``(i, j)``, i below j, of standardized rows ``(n, d)``: one is among the ``count`` nearest of the other.

    None that are farther apart than ``farthest``, a root mean squared difference.
    """
    found: set[tuple[int, int]] = set()
    squares = (Z**2).sum(axis=1)
    count = min(count, len(Z) - 1)
    if count < 1:
        return []
    limit = farthest**2 * Z.shape[1]
    step = max(1, (1 << 23) // len(Z))  # 64 MiB of distances at once
    for start in range(0, len(Z), step):
        distances = squares[start : start + step, None] + squares - 2 * Z[start : start + step] @ Z.T
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        for row, others in zip(own, nearest, strict=True):
            for j in others[distances[row, others] <= limit]:
                i = start + int(row)
                found.add((min(i, int(j)), max(i, int(j))))
    return sorted(found)


def _squeezed(thumbnail: NDArray[np.float32], side: int = 16) -> NDArray[np.float32]:
    """As small as the finder of copies wants it: means of blocks, as the larger one is itself."""
    block = SIDE // side
    result: NDArray[np.float32] = thumbnail.reshape(side, block, side, block).mean(axis=(1, 3)).ravel()
    return result


def _within(pairs: Sequence[tuple[int, int]], frames: Sequence[Frame], gap: float) -> NDArray[np.intp]:
    """Pairs that were not certainly taken farther apart than the gap."""
    kept = []
    for i, j in pairs:
        apart = frames[i].capture.seconds_from(frames[j].capture)
        if apart is None or apart <= gap:
            kept.append((i, j))
    return _as_array(kept)


def _neighbors_in_time(frames: Sequence[Frame], gap: float) -> list[tuple[int, int]]:
    """Pairs of photographs of one camera, the next few after each within the gap."""
    cameras: dict[str, list[int]] = {}
    for i, frame in enumerate(frames):
        if frame.capture.local is not None:
            cameras.setdefault(frame.capture.camera, []).append(i)
    found = []
    for rows in cameras.values():
        ordered = sorted(rows, key=lambda i: (frames[i].capture.moment, i))
        for at, i in enumerate(ordered):
            for j in ordered[at + 1 : at + 1 + NEIGHBORS_IN_TIME]:
                apart = frames[i].capture.seconds_from(frames[j].capture)
                if apart is not None and apart <= gap:
                    found.append((min(i, j), max(i, j)))
    return found


def _area(frame: Frame) -> int | None:
    size = frame.capture.size
    return None if size is None else size[0] * size[1]


def _as_array(pairs: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)
