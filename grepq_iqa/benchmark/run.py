"""One data set, one model, its baselines: every image once, then every metric."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from grepq_iqa._version import __version__
from grepq_iqa.benchmark import baselines as older_methods
from grepq_iqa.benchmark.correlation import correlation_metrics
from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages
from grepq_iqa.benchmark.few_labels import FewLabels, few_labels
from grepq_iqa.benchmark.result import BenchmarkResult, ImageScores
from grepq_iqa.benchmark.result_log import Entry, ResultLog
from grepq_iqa.benchmark.splits import Split, official_splits, random_splits
from grepq_iqa.calibration.prior import resolved
from grepq_iqa.data.images import decode_image
from grepq_iqa.errors import GrepqError, ImageError, UsageError
from grepq_iqa.metrics import srcc

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

_FIELDS = {"Q": "score", "Q_L": "low_level", "Q_H": "high_level"}
OURS = tuple(_FIELDS)
"""Our three scores, as methods are called."""

Protocol = Literal["random", "official"]
Progress = Callable[[str, int, int], None]
"""Called with method, images done, images in all."""

Failure = tuple[str, str, str]
"""Path, method and reason."""


def run(
    images: LabeledImages,
    model: GRepQ,
    *,
    label_counts: Sequence[int] = (50, 100, 200),
    splits: int = 10,
    protocol: Protocol = "random",
    baselines: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    make_regressor: Callable[[], Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Score every image by the model and its baselines and compare with MOS.

    Only images that every method can use count, so that all are measured on the same; the others are listed.

    Args:
        images: from `grepq_iqa.benchmark.read`.
        model: ours.
        label_counts: for the data-efficient protocol; empty leaves it out.
        splits: seeds ``seed`` to ``seed + splits - 1``.
        protocol: "random" holds out 20 % of the contents each time; "official" takes the authors' test part.
        baselines: names from `grepq_iqa.benchmark.baselines.BASELINES`.
        cache_dir: where features and scores of single images are kept, and taken from when a run is repeated; the
            `FeatureCache` there is shared with other commands. None: nowhere.
        make_regressor: returns a fresh regressor, which is measured alone; default: `MOSRegressor` with the model's
            feature statistics, which is the paper's protocol, and beside it the same with the model's head start.
        resamples: of the bootstrap; 0: no intervals.
        seed: of splits and bootstrap.
        progress: told of every image.

    Raises:
        UsageError: more labels than the pool holds, no official split, or fewer than 5 usable images.
        GrepqError: a baseline's package is missing. Both are found out before the first image is scored.
    """
    label_counts = tuple(sorted(set(label_counts)))
    all_splits = planned_splits(images, label_counts, protocol=protocol, splits=splits, seed=seed)
    methods = {name: older_methods.load_baseline(name) for name in baselines}

    failed: list[Failure] = []
    ours, features = _score_by_model(images.paths, model, cache_dir, failed, progress)
    found = {"grepq": ours}
    for name, method in methods.items():
        found[name] = _score_by_baseline(images.paths, name, method, cache_dir, failed, progress)

    usable = [i for i, path in enumerate(images.paths) if all(path in entries for entries in found.values())]
    if len(usable) < 5:
        reason = f"; the first: {failed[0][0]}: {failed[0][2]}" if failed else ""
        raise UsageError(f"{images.name}: {len(usable)} usable images, at least 5 are needed{reason}")
    images = images.take(usable)
    scores = _scores(images.paths, found)
    notes = list(images.notes)
    if failed:
        all_splits = _splits(images, protocol, splits, seed)
        room = _room(all_splits)
        if dropped := [count for count in label_counts if count > room]:
            notes.append(f"left out {dropped} labels: unusable images leave {room} to draw from")
        label_counts = tuple(count for count in label_counts if count <= room)
    few: list[FewLabels] = []
    started: list[FewLabels] = []
    prior = "none" if make_regressor else resolved("auto", ratings=model.ratings is not None)
    if label_counts:
        rows = np.stack([features[path] for path in images.paths])
        few = few_labels(rows, images.mos, make_regressor or _default_regressor(model), label_counts, all_splits)
        if prior != "none":
            from sklearn.base import clone

            if _rated_by(model, images.name):
                notes.append("the ratings predictor learned from photographs of this set: head starts flatter here")
            extended, regressor = model.regression(rows, "auto")
            started = few_labels(extended, images.mos, lambda: clone(regressor), label_counts, all_splits)
    return BenchmarkResult(
        dataset=images.name,
        scale=images.scale,
        model={
            "name": model.name,
            "encoder_hash": model.encoder_hash,
            "max_side": model.max_side,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        protocol=_in_words(images, protocol, splits, seed, all_splits),
        images=len(images),
        contents=None if images.groups is None else len(np.unique(images.groups)),
        zero_shot={
            name: correlation_metrics(values, images.mos, groups=images.groups, resamples=resamples, seed=seed)
            for name, values in scores.items()
        },
        test_parts={
            name: tuple(srcc(values[test], images.mos[test]) for _, test in all_splits)
            for name, values in scores.items()
        },
        few_labels=tuple(few),
        head_start=tuple(started),
        prior=prior,
        seconds={name: _median_seconds(entries.values()) for name, entries in found.items()},
        per_image=tuple(
            ImageScores(str(path), float(images.mos[i]), {name: float(values[i]) for name, values in scores.items()})
            for i, path in enumerate(images.paths)
        ),
        missing=images.missing,
        failed=tuple(failed),
        notes=tuple(notes),
        versions={"grepq-iqa": __version__} | {name: older_methods.version(name) for name in baselines},
    )


def _score_by_model(
    paths: Sequence[Path],
    model: GRepQ,
    cache_dir: str | Path | None,
    failed: list[Failure],
    progress: Progress | None,
) -> tuple[dict[Path, Entry], dict[Path, NDArray[np.float32]]]:
    """Scores and features by our model, through the cache that other commands share."""
    from grepq_iqa.batch import score_paths
    from grepq_iqa.feature_cache import FeatureCache, model_key

    found: dict[Path, Entry] = {}
    features: dict[Path, NDArray[np.float32]] = {}
    cache = None if cache_dir is None else FeatureCache(cache_dir, model_key(model))
    results = score_paths(model, paths, features=True, cache=cache)
    for done, (path, result) in enumerate(zip(paths, results, strict=True), start=1):
        if result.score is None or result.features is None:
            failed.append((str(path), "grepq", result.error or "unknown"))
        else:
            values = {name: float(getattr(result.score, key)) for name, key in _FIELDS.items()}
            found[path], features[path] = Entry(values, result.seconds), result.features
        if progress:
            progress("grepq", done, len(paths))
    return found, features


def _score_by_baseline(
    paths: Sequence[Path],
    name: str,
    method: Callable[[NDArray[np.uint8]], float],
    cache_dir: str | Path | None,
    failed: list[Failure],
    progress: Progress | None,
) -> dict[Path, Entry]:
    found: dict[Path, Entry] = {}
    with ResultLog(_log_folder(cache_dir), _safe(f"{name}-{older_methods.version(name)}")) as log:
        for path in paths:
            known = log.get(path)
            if known is not None:
                found[path] = known
        todo = [path for path in paths if path not in found]
        for done, path in enumerate(todo, start=1):
            started = time.perf_counter()
            try:
                pixels = np.ascontiguousarray(
                    (decode_image(path).values.transpose(1, 2, 0) * 255).round().astype(np.uint8)
                )
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


def _log_folder(cache_dir: str | Path | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir).expanduser() / "benchmark"


def _median_seconds(entries: Iterable[Entry]) -> float:
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    return float(np.median(known)) if known else float("nan")


def _scores(paths: Sequence[Path], found: dict[str, dict[Path, Entry]]) -> dict[str, NDArray[np.float64]]:
    names = [(method, name) for method in found for name in (OURS if method == "grepq" else (method,))]
    return {name: np.array([found[method][path].values[name] for path in paths]) for method, name in names}


def planned_splits(
    images: LabeledImages,
    label_counts: Sequence[int],
    *,
    protocol: Protocol = "random",
    splits: int = 10,
    seed: int = 0,
) -> list[Split]:
    """The splits that :func:`run` would take, before an image is read.

    Args:
        images, label_counts, protocol, splits, seed: as there.

    Raises:
        UsageError: more labels than the pool holds, or no official split.
    """
    found = _splits(images, protocol, splits, seed)
    room, most = _room(found), max(label_counts, default=0)
    if most > room:
        raise UsageError(
            f"{most} labels asked for, but {images.name} leaves {room} images to draw them from: use smaller --labels"
        )
    return found


def _room(splits: Sequence[Split]) -> int:
    return min((len(pool) for pool, _ in splits), default=0)


def _splits(images: LabeledImages, protocol: Protocol, splits: int, seed: int) -> list[Split]:
    if splits < 1:
        raise UsageError(f"at least one split is needed, got {splits}")
    if protocol == "random":
        return list(random_splits(len(images), splits, groups=images.groups, seed=seed))
    if images.split is None:
        raise UsageError(f"{images.name}: no official split is known here; use --protocol random")
    return list(official_splits(images.split, splits, seed=seed))


def _default_regressor(model: GRepQ) -> Callable[[], Any]:
    from grepq_iqa.calibration.regressor import MOSRegressor

    return lambda: MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)


def _rated_by(model: GRepQ, name: str) -> bool:
    """Whether the ratings that a model's head start rests on are of the set of this name, as far as names tell."""
    rated = (model.config.get("provenance") or {}).get("ratings") or {}
    return any(name.lower() in str(one.get("name", "")).lower() for one in rated.get("data") or ())


def _in_words(images: LabeledImages, protocol: Protocol, splits: int, seed: int, all_splits: Sequence[Split]) -> str:
    pool, test = all_splits[0]
    seeds = f"seeds {seed} to {seed + splits - 1}"
    if protocol == "official":
        return f"the authors' test part of {len(test)} images, labels drawn from the other {len(pool)}, {seeds}"
    what = "images" if images.groups is None else f"contents ({len(np.unique(images.groups))} in all)"
    return f"20 % of the {what} held out, {len(test)} images in the first split, labels drawn from the others, {seeds}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text)
