"""Are reasons right? Clean photographs that took no part in fitting, each with one known distortion, two, or none.

Photographs are shrunk to 60 %, since they are JPEG files of quality 95, cropped to a central square, distorted, and
rounded to 8 bits. Every reason is tried at severities 1 to 5 on every photograph; where several families stand for one
reason they take turns from photograph to photograph. Printed for every reason: how often it is named first at severity
3 and more, how its amount ranks with severity (SRCC over all photographs, and the mean over single ones), then how
often nothing is named on clean photographs, and how often two at once are both among the first three.

Run: python studies/reasons.py /work/shared/data/pristine --held-out studies/reasons_held_out.txt [--cache DIR]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from held_out import photographs_of
from numpy.typing import NDArray
from scipy.stats import spearmanr

from grepq_iqa.explain.measures import measure
from grepq_iqa.explain.network import GROUPS, Network, load_network
from grepq_iqa.training.data.distortions import SEVERITIES, Picture, compose
from grepq_iqa.training.data.pictures import clean_start
from grepq_iqa.training.reasons import saved

SHRINK, SIDE = 0.6, 400
PAIRS = 3  # of every photograph
PAIR_SEVERITIES = (2, 3, 4)
START_QUALITY = 90  # of the JPEG that the second clean copy goes through


def main() -> None:
    """Print one JSON line a reason, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--held-out", type=Path, required=True, help="SHA-256 of the photographs to take, one a line")
    parser.add_argument("--cache", type=Path, help="folder to keep the measures in, and to take them from")
    parser.add_argument("--first", type=int, default=0, help="index of the first photograph")
    parser.add_argument("--photographs", type=int, default=60)
    parser.add_argument("--severities", type=int, nargs="+", default=SEVERITIES)
    parser.add_argument("--known", action="store_true", help="report on the photographs in --cache alone")
    options = parser.parse_args()
    paths = photographs_of(options.paths, options.held_out)
    trials: list[Trial] = []
    measures = []
    for index, path in list(enumerate(paths))[options.first : options.first + options.photographs]:
        todo = trials_of(index, options.severities)
        kept = options.cache / f"{index:03d}-{len(todo)}.npy" if options.cache else None
        if options.known and not (kept and kept.exists()):
            continue
        if kept and kept.exists():
            rows = np.load(kept)
        else:
            rows = measured(path, todo)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.save(kept, rows)
        trials += todo
        measures.append(rows)
    print(json.dumps({"photographs": len(measures)}))
    report(load_network(), trials, np.concatenate(measures))


Trial = tuple[int, tuple[tuple[str, float], ...], bool]
"""Photograph, what is done to it, and whether it is saved as a good JPEG before that."""


def trials_of(index: int, severities: Sequence[int]) -> list[Trial]:
    """All that is done to photograph ``index``."""
    trials: list[Trial] = [(index, (), False), (index, (), True)]
    for members in GROUPS.values():
        trials += [(index, ((members[index % len(members)], float(s)),), False) for s in severities]
    rng = np.random.default_rng(index)
    for _ in range(PAIRS):
        groups = [str(name) for name in rng.choice(list(GROUPS), 2, replace=False)]
        if set(groups) in ({"dull", "garish"}, {"dark", "bright"}):
            groups[1] = "noise"
        steps = tuple((str(rng.choice(GROUPS[name])), float(rng.choice(PAIR_SEVERITIES))) for name in groups)
        trials.append((index, tuple(sorted(steps, key=lambda step: _ORDER[group_of(step[0])])), False))
    return trials


_ORDER = {
    name: place
    for place, name in enumerate(
        # as it happens: light, lens, sensor, development, resizing, saving
        [
            *("dark", "bright", "contrast", "color_cast", "sharpness", "noise", "dull", "garish"),
            *("upscaling", "over_sharpening", "compression"),
        ]
    )
}


def group_of(family: str) -> str:
    """The reason that a family of distortions stands for."""
    return next(group for group, members in GROUPS.items() if family in members)


def measured(path: Path, trials: list[Trial]) -> NDArray[np.float32]:
    """Measures of one photograph's trials, ``(n, m)``."""
    start = central(clean_start(path, SHRINK))
    rows = []
    for index, steps, good in trials:
        picture = saved(start, START_QUALITY) if good else start
        distorted = compose(picture, steps, np.random.default_rng(index))
        rows.append(measure(np.round(distorted * 255) / np.float32(255)))
    return np.stack(rows)


def central(picture: Picture) -> Picture:
    """The middle ``SIDE`` pixels of both sides."""
    top, left = (max(0, (size - SIDE) // 2) for size in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def report(network: Network, trials: list[Trial], measures: NDArray[np.float32]) -> None:
    """Print what was found."""
    severities = [network.severities(row).groups for row in measures]
    named = [network.named(found) for found in severities]
    clean = [not names for (_, steps, _), names in zip(trials, named, strict=True) if not steps]
    all_first = []
    for group in GROUPS:
        rows: dict[str, list[Any]] = {"severity": [], "found": [], "first": [], "photograph": []}
        instead: Counter[str] = Counter()
        for (photograph, steps, _), found, names in zip(trials, severities, named, strict=True):
            if len(steps) == 1 and group_of(steps[0][0]) == group:
                rows["severity"].append(steps[0][1])
                rows["found"].append(found[group])
                rows["photograph"].append(photograph)
                rows["first"].append(bool(names) and names[0] == group)
                if steps[0][1] >= 3 and not rows["first"][-1]:
                    instead[names[0] if names else "nothing"] += 1
        severity, found_, first, origin = (np.array(rows[k]) for k in ("severity", "found", "first", "photograph"))
        single = [spearmanr(severity[origin == one], found_[origin == one])[0] for one in np.unique(origin)]
        all_first.append(first[severity >= 3].mean())
        line = {
            "reason": group,
            "first_at": {int(s): round(float(first[severity == s].mean()), 3) for s in np.unique(severity)},
            "first": round(float(all_first[-1]), 3),
            "named_instead": dict(instead.most_common(3)),
            "srcc_all": round(float(spearmanr(severity, found_)[0]), 3),
            "srcc_each": round(float(np.nan_to_num(single).mean()), 3),
        }
        print(json.dumps(line))
    both: dict[float, list[bool]] = {s: [] for s in (2.0, 3.0)}
    missed: Counter[str] = Counter()
    for (_, steps, _), names in zip(trials, named, strict=True):
        if len(steps) == 2:
            groups = {group_of(family) for family, _ in steps}
            both[min(severity for _, severity in steps) if min(s for _, s in steps) < 3 else 3.0].append(
                groups <= set(names[:3])
            )
            missed.update(groups - set(names[:3]))
    shares = {f"both_of_two_least_{int(s)}": round(float(np.mean(found)), 3) for s, found in both.items()}
    overall = {
        "first": round(float(np.mean(all_first)), 3),
        "clean_not_named": round(float(np.mean(clean)), 3),
        "both_of_two": round(float(np.mean([x for found in both.values() for x in found])), 3),
        **shares,
        "pairs": sum(map(len, both.values())),
        "missed_of_two": dict(missed.most_common(6)),
    }
    print(json.dumps(overall))


if __name__ == "__main__":
    main()
