"""One data set, one model, its rivals: every image once, then every measure."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from grepq_iqa._version import __version__
from grepq_iqa.benchmark import baselines as other_methods
from grepq_iqa.benchmark.datasets.labeled_images import LabelledImages
from grepq_iqa.benchmark.protocol import (
    Agreement,
    FewLabels,
    Indices,
    agreement,
    few_labels,
    official_splits,
    random_splits,
    srcc,
)
from grepq_iqa.benchmark.result_log import Entry, ResultLog
from grepq_iqa.errors import GrepqError, ImageError, UsageError

_FIELDS = {"Q": "value", "Q_L": "low_level", "Q_H": "high_level"}
OURS = tuple(_FIELDS)
Protocol = Literal["random", "official"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ImageScores:
    """One image: human score, and the score of every method, all higher is better."""

    path: str
    mos: float
    scores: dict[str, float]


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything that was measured; `to_json` makes plain values of it.

    Attributes:
        dataset: name of the data set.
        scale: units of the opinions.
        model: name, hash and settings of ours.
        protocol: how labels and test part were divided, in words.
        images: how many images count.
        contents: how many contents they show; None where each is its own.
        zero_shot: method to its agreement over all images: ``Q``, ``Q_L``, ``Q_H`` and the rivals.
        test_parts: method to its zero-shot SRCC on the test part of every split, to compare with `few_labels`.
        few_labels: by number of labels; empty where none were asked for.
        seconds: method to median seconds for one picture, decoding included (our three share one pass); NaN where all
            came from the cache of another command.
        per_image: in the order of the data set.
        missing: names without a file.
        failed: path, method and reason for every image that was left out.
        notes: what a reader of the numbers should know.
        versions: of this package and of the rivals'.
    """

    dataset: str
    scale: str
    model: dict[str, Any]
    protocol: str
    images: int
    contents: int | None
    zero_shot: dict[str, Agreement]
    test_parts: dict[str, tuple[float, ...]]
    few_labels: tuple[FewLabels, ...]
    seconds: dict[str, float]
    per_image: tuple[ImageScores, ...]
    missing: tuple[str, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; what is not finite is null. Medians over splits are written out."""
        content = asdict(self)
        for row, found in zip(content["few_labels"], self.few_labels, strict=True):
            row |= {"median_srcc": found.median_srcc, "median_plcc": found.median_plcc}
        content["test_parts_median"] = {name: float(np.median(v)) for name, v in self.test_parts.items()}
        return _plain(content)


def run(
    images: LabelledImages,
    model: Any,
    *,
    label_counts: Sequence[int] = (50, 100, 200),
    splits: int = 10,
    protocol: Protocol = "random",
    rivals: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    make_regressor: Callable[[], Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Score every image by the model and its rivals and compare with the opinions.

    Only images that every method can use count, so that all are measured on the same; the others are listed.

    Args:
        images: from `grepq_iqa.benchmark.read`.
        model: a `GRepQ`.
        label_counts: for the data-efficient protocol; empty leaves it out.
        splits: seeds ``seed`` to ``seed + splits - 1``.
        protocol: "random" holds out 20 % of the contents each time; "official" takes the authors' test part.
        rivals: names from `grepq_iqa.benchmark.baselines.RIVALS`.
        cache_dir: where features and scores of single images are kept, and taken from when a run is repeated; the
            `FeatureCache` there is shared with other commands. None: nowhere.
        make_regressor: returns a fresh regressor; default: `MOSRegressor` with the model's feature statistics.
        resamples: of the bootstrap; 0: no intervals.
        seed: of splits and bootstrap.
        progress: called with method, images done, images in all.

    Raises:
        UsageError: more labels than the pool holds, no official split, or fewer than 5 usable images.
        GrepqError: a rival's package is missing. Both are found out before the first image is scored.
    """
    label_counts = tuple(sorted(set(label_counts)))
    divisions = _divisions(images, protocol, splits, seed)
    room = min((len(pool) for pool, _ in divisions), default=0)
    if label_counts and label_counts[-1] > room:
        raise UsageError(
            f"{label_counts[-1]} labels asked for, but {images.name} leaves {room} images to draw them from: "
            f"use smaller --labels"
        )
    methods = {name: other_methods.load_rival(name) for name in rivals}

    failed: list[tuple[str, str, str]] = []
    ours, features = _analyse(images.paths, model, cache_dir, failed, progress)
    found = {"grepq": ours}
    for name, method in methods.items():
        found[name] = _analyse_by_rival(images.paths, name, method, cache_dir, failed, progress)

    usable = [i for i, path in enumerate(images.paths) if all(path in entries for entries in found.values())]
    if len(usable) < 5:
        reason = f"; the first: {failed[0][0]}: {failed[0][2]}" if failed else ""
        raise UsageError(f"{images.name}: {len(usable)} usable images, at least 5 are needed{reason}")
    images = images.take(usable)
    scores = _scores(images.paths, found)
    notes = []
    if failed:
        divisions = _divisions(images, protocol, splits, seed)
        room = min((len(pool) for pool, _ in divisions), default=0)
        if dropped := [count for count in label_counts if count > room]:
            notes.append(f"left out {dropped} labels: unusable images leave {room} to draw from")
        label_counts = tuple(count for count in label_counts if count <= room)
    few: list[FewLabels] = []
    if label_counts:
        rows = np.stack([features[path] for path in images.paths])
        few = few_labels(rows, images.mos, make_regressor or _default_regressor(model), label_counts, divisions)
    return BenchmarkResult(
        dataset=images.name,
        scale=images.scale,
        model={"name": model.name, "encoder_hash": model.encoder_hash, "max_side": getattr(model, "max_side", None)},
        protocol=_in_words(images, protocol, splits, seed, divisions),
        images=len(images),
        contents=None if images.groups is None else len(np.unique(images.groups)),
        zero_shot={
            name: agreement(values, images.mos, groups=images.groups, resamples=resamples, seed=seed)
            for name, values in scores.items()
        },
        test_parts={
            name: tuple(srcc(values[test], images.mos[test]) for _, test in divisions)
            for name, values in scores.items()
        },
        few_labels=tuple(few),
        seconds={name: _median_seconds(entries.values()) for name, entries in found.items()},
        per_image=tuple(
            ImageScores(str(path), float(images.mos[i]), {name: float(values[i]) for name, values in scores.items()})
            for i, path in enumerate(images.paths)
        ),
        missing=images.missing,
        failed=tuple(failed),
        notes=tuple(notes),
        versions={"grepq-iqa": __version__} | {name: other_methods.version(name) for name in rivals},
    )


def _analyse(
    paths: Sequence[Path],
    model: Any,
    cache_dir: str | Path | None,
    failed: list[tuple[str, str, str]],
    progress: Progress | None,
) -> tuple[dict[Path, Entry], dict[Path, NDArray[np.float32]]]:
    """Scores and features by our model. Features are shared with other commands; the log adds how long they took."""
    from grepq_iqa.batch import stream
    from grepq_iqa.feature_cache import FeatureCache, model_key

    found: dict[Path, Entry] = {}
    features: dict[Path, NDArray[np.float32]] = {}
    key = model_key(model)
    cache = None if cache_dir is None else FeatureCache(cache_dir, key)
    with ResultLog(_log_folder(cache_dir), f"grepq-{key[:16]}") as log:
        digests = {path: cache.digest(path) for path in paths} if cache else {}
        for path, digest in digests.items():
            known = cache.read(digest) if cache else None
            values = _our_values(known.score) if known else None
            if known and values:
                timed = log.get(path)
                found[path], features[path] = Entry(values, timed.seconds if timed else None), known.features
        todo = [path for path in paths if path not in found]
        started = time.perf_counter()
        for done, (path, result) in enumerate(zip(todo, stream(model, todo, features=True), strict=True), start=1):
            now = time.perf_counter()
            if result.score is None or result.features is None:
                failed.append((str(path), "grepq", result.error or "unknown"))
            else:
                fields = asdict(result.score)
                found[path] = Entry(_our_values(fields) or {}, now - started)
                features[path] = result.features
                if cache:
                    cache.write(digests[path], result.features, fields | {"percentile": None})
                    log.put(path, found[path])
            started = time.perf_counter()
            if progress:
                progress("grepq", len(paths) - len(todo) + done, len(paths))
    return found, features


def _analyse_by_rival(
    paths: Sequence[Path],
    name: str,
    method: Callable[[NDArray[np.uint8]], float],
    cache_dir: str | Path | None,
    failed: list[tuple[str, str, str]],
    progress: Progress | None,
) -> dict[Path, Entry]:
    from grepq_iqa.data.images import load_image

    found: dict[Path, Entry] = {}
    with ResultLog(_log_folder(cache_dir), _safe(f"{name}-{other_methods.version(name)}")) as log:
        for path in paths:
            known = log.get(path)
            if known is not None:
                found[path] = known
        todo = [path for path in paths if path not in found]
        for done, path in enumerate(todo, start=1):
            started = time.perf_counter()
            try:
                pixels = load_image(path).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
                value = method(pixels)
                if not math.isfinite(value):
                    raise UsageError(f"the score is {value}")
                found[path] = Entry({name: value}, time.perf_counter() - started)
                log.put(path, found[path])
            except ImageError as error:
                failed.append((str(path), name, error.reason))
            except (GrepqError, ArithmeticError, ValueError, IndexError, TypeError, np.linalg.LinAlgError) as error:
                # What others' code raises for an image it was not made for; the image is left out and listed.
                failed.append((str(path), name, f"{type(error).__name__}: {error}"))
            if progress:
                progress(name, len(paths) - len(todo) + done, len(paths))
    return found


def _our_values(fields: Mapping[str, Any] | None) -> dict[str, float] | None:
    try:
        return None if fields is None else {name: float(fields[key]) for name, key in _FIELDS.items()}
    except (KeyError, TypeError, ValueError):  # written by another version
        return None


def _log_folder(cache_dir: str | Path | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir).expanduser() / "benchmark"


def _median_seconds(entries: Iterable[Entry]) -> float:
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    return float(np.median(known)) if known else float("nan")


def _scores(paths: Sequence[Path], found: dict[str, dict[Path, Entry]]) -> dict[str, NDArray[np.float64]]:
    names = [(method, name) for method in found for name in (OURS if method == "grepq" else (method,))]
    return {name: np.array([found[method][path].values[name] for path in paths]) for method, name in names}


def _divisions(images: LabelledImages, protocol: Protocol, splits: int, seed: int) -> list[tuple[Indices, Indices]]:
    if splits < 1:
        raise UsageError(f"at least one split is needed, got {splits}")
    if protocol == "random":
        return list(random_splits(len(images), splits, groups=images.groups, seed=seed))
    if images.split is None:
        raise UsageError(f"{images.name}: no official split is known here; use --protocol random")
    return list(official_splits(images.split, splits, seed=seed))


def _default_regressor(model: Any) -> Callable[[], Any]:
    from grepq_iqa.calibration.regressor import MOSRegressor

    return lambda: MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)


def _in_words(
    images: LabelledImages, protocol: Protocol, splits: int, seed: int, divisions: Sequence[tuple[Indices, Indices]]
) -> str:
    pool, test = divisions[0]
    seeds = f"seeds {seed} to {seed + splits - 1}"
    if protocol == "official":
        return f"the authors' test part of {len(test)} images, labels drawn from the other {len(pool)}, {seeds}"
    what = "images" if images.groups is None else f"contents ({len(np.unique(images.groups))} in all)"
    return f"20 % of the {what} held out, {len(test)} images in the first split, labels drawn from the others, {seeds}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def worst(result: BenchmarkResult, method: str = "Q", k: int = 10) -> tuple[list[int], list[int]]:
    """Positions in ``result.per_image`` where ranks part most: scored too high, and too low, ``k`` each at most.

    Compared are places in the order by score and by opinion, which needs no common scale.
    """
    scores = np.array([row.scores[method] for row in result.per_image])
    mos = np.array([row.mos for row in result.per_image])
    gap = _places(scores) - _places(mos)
    order = np.argsort(-gap, kind="stable")
    too_high = [int(i) for i in order[:k] if gap[i] > 0]
    too_low = [int(i) for i in order[::-1][:k] if gap[i] < 0]
    return too_high, too_low


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the others below each value, in [0, 1]."""
    from scipy.stats import rankdata

    return (rankdata(values) - 1) / max(1, len(values) - 1)


def iter_failures(result: BenchmarkResult) -> Iterator[str]:
    """One line for every image that was left out, and one for those that are missing."""
    for path, method, reason in result.failed:
        yield f"{path}: {reason} [{method}]"
    if result.missing:
        shown = ", ".join(result.missing[:5]) + (", ..." if len(result.missing) > 5 else "")
        yield f"{len(result.missing)} images of the label file are not there: {shown}"
