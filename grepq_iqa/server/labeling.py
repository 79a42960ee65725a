"""The labeling loop of the page: which photographs to label, a fit on the ratings, and predictions of the rest."""

from __future__ import annotations

import copy
import csv
import io
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grepq_iqa.batch import Result
from grepq_iqa.calibration.groups import find_groups
from grepq_iqa.calibration.report import FitReport
from grepq_iqa.data.labels import Labels
from grepq_iqa.errors import LabelsError, UsageError
from grepq_iqa.labeling.selection import select
from grepq_iqa.rows import RESULT_FIELDS, completed, predict_row
from grepq_iqa.server.photos import Photo, PhotoStore
from grepq_iqa.server.rating_table import RatingTable

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

FEWEST_LABELS = 10
"""Labels from which the page fits: fewer give ranges too wide to act on."""
SCALE = (1, 5)
"""Absolute category rating of ITU-T P.910: 1 bad, 2 poor, 3 fair, 4 good, 5 excellent."""
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Fit:
    """A fit on the ratings.

    Attributes:
        model: fitted; shares its encoders with the server's.
        report: what its labels say of it.
        labels: how many there were.
        predictions: of photographs by number, filled as they are asked for.
    """

    model: GRepQ
    report: FitReport
    labels: int
    predictions: dict[int, dict[str, Any]]


class Labeling:
    """One person's ratings of the page's photographs.

    Args:
        model: whose features are used; never changed.
        photos: of the page.
        table: of ratings.

    Attributes:
        fit: the last one, or None.
    """

    def __init__(self, model: GRepQ, photos: PhotoStore, table: RatingTable) -> None:
        self.photos, self.table = photos, table
        self.fit: Fit | None = None
        self._model = model
        self._lock = threading.Lock()

    def rating(self, photo: Photo) -> float | None:
        """Of one photograph, None without one."""
        return self.table.find(photo.name, photo.digest)

    def rate(self, photo: Photo, rating: float | None) -> int:
        """Keep a rating on the disk, or take it back; how many of the page's photographs have one then.

        Raises:
            UsageError: out of range, the photograph has no score, or the table cannot be written.
        """
        if rating is not None and not SCALE[0] <= rating <= SCALE[1]:
            raise UsageError(f"ratings go from {SCALE[0]} to {SCALE[1]}")
        if not photo.usable or photo.digest is None:
            raise UsageError("only photographs with a score can be rated")
        self.table.set(photo.name, photo.digest, rating)
        return sum(one.usable and self.rating(one) is not None for one in self.photos.all())

    def choose(self, count: int) -> list[int]:
        """Numbers of the photographs that `grepq select` would choose to label next, most useful first.

        Raises:
            UsageError: there is nothing to choose from.
        """
        usable = [photo for photo in self.photos.all() if photo.usable]
        labeled = [i for i, photo in enumerate(usable) if self.rating(photo) is not None]
        room = len(usable) - len(labeled)
        if not room:
            raise UsageError("every photograph is rated; add some more" if usable else "add some photographs first")
        scores = np.array([float(photo.result.score) for photo in usable])  # type: ignore[arg-type, union-attr]
        chosen = select(
            _features(usable),
            scores,
            min(count, room),
            labeled=labeled,
            feature_mean=self._model.feature_mean,
            feature_scale=self._model.feature_scale,
        )
        return [usable[i].id for i in chosen]

    def refit(self) -> Fit:
        """Fit on all ratings of photographs that are here.

        Raises:
            LabelsError: they are too few, or all the same.
        """
        with self._lock:
            rated = [(photo, self.rating(photo)) for photo in self.photos.all() if photo.usable]
            pairs = [(photo, rating) for photo, rating in rated if rating is not None]
            if len(pairs) < FEWEST_LABELS:
                raise LabelsError(f"{len(pairs)} photographs are rated; {FEWEST_LABELS} are needed for a fit")
            photos = [photo for photo, _ in pairs]
            features, mos = _features(photos), np.array([rating for _, rating in pairs], dtype=np.float64)
            model = copy.copy(self._model)
            groups = find_groups(
                features,
                [photo.digest for photo in photos],
                thumbnails=[photo.gray for photo in photos],
                feature_mean=model.feature_mean,
                feature_scale=model.feature_scale,
            )
            model.fit(features=features, mos=mos, groups=groups.units)
            scores = [float(photo.result.score) for photo in photos]  # type: ignore[arg-type, union-attr]
            report = model.report(features, _labels(photos, mos), scores, groups=groups, confidence=CONFIDENCE)
            self.fit = Fit(model, report, len(pairs), _predicted(model, self.photos.all()))
            return self.fit

    def prediction(self, photo: Photo) -> dict[str, Any] | None:
        """``mos``, ``low`` and ``high`` of a photograph on the user's own scale; None before a fit."""
        fit = self.fit
        if fit is None or not photo.usable:
            return None
        if photo.id not in fit.predictions:
            fit.predictions.update(_predicted(fit.model, [photo]))
        row = fit.predictions[photo.id]
        return {name: row[name] for name in ("mos", "low", "high")}

    def predictions_csv(self) -> bytes:
        """Rows as `grepq predict` writes them.

        Raises:
            UsageError: nothing is fitted yet.
        """
        fit = self.require_fit()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(RESULT_FIELDS["predict"])
        for photo in self.photos.all():
            if photo.usable:
                self.prediction(photo)
                row = fit.predictions[photo.id]
            else:
                row = completed("predict", photo.result or Result(photo.name, error="not scored yet"), {})
            row = row | {"path": photo.name, "warnings": "; ".join(row["warnings"] or [])}
            writer.writerow(["" if value is None else value for value in row.values()])
        return text.getvalue().encode("utf-8", "surrogateescape")

    def write_model_zip(self, path: Path) -> None:
        """The fitted model's folder, as `grepq fit` writes it, in a .zip file.

        Raises:
            UsageError: nothing is fitted yet, or it cannot be written.
        """
        fit = self.require_fit()
        with tempfile.TemporaryDirectory(prefix="grepq-model-") as folder:
            directory = fit.model.save_pretrained(Path(folder) / "my-model")
            try:
                with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # weights do not compress
                    for file in sorted(directory.rglob("*")):
                        if file.is_file():
                            archive.write(file, Path("my-model") / file.relative_to(directory))
            except OSError as error:
                raise UsageError(f"the model cannot be packed: {error.strerror or error}") from error

    def require_fit(self) -> Fit:
        """The last fit.

        Raises:
            UsageError: nothing is fitted yet.
        """
        if self.fit is None:
            raise UsageError(f"nothing is fitted yet; rate {FEWEST_LABELS} photographs first")
        return self.fit


def summary(fit: Fit) -> dict[str, Any]:
    """A fit in sentences and figures for the page; JSON-ready."""
    report = fit.report
    figures = report.as_dict()
    sentences = []
    if report.validation is None:
        sentences.append("These are too few different photographs to say how good the fit is.")
    else:
        srcc = report.validation.srcc
        sentences.append(
            f"Held out in cross-validation, predictions and ratings have SRCC {srcc.value:.2f} "
            f"(90 % range {srcc.low:.2f} to {srcc.high:.2f}; 1 is the same order)."
        )
    gain = (figures["learning_curve"] or {}).get("gain_by_doubling")
    if gain is not None:
        sentences.append(f"{fit.labels} more labels would add {gain:.2f} to SRCC at best.")
    else:
        sentences.append(
            "What more labels would add cannot be told from so few different photographs; label some more."
        )
    needed = (figures["compared_with_no_labels"] or {}).get("labels_needed")
    if needed:
        upper = needed["high"] or "more"
        sentences.append(
            f"So far it ranks worse than what needs no labels; some {needed['labels']} labels would probably "
            f"do better ({needed['low']} to {upper})."
        )
    sentences += [f"Beware: {warning}." for warning in report.warnings if not (needed and "no labels" in warning)]
    again = [Path(row["path"]).name for row in figures["look_again"]]
    if again:
        sentences.append(f"Look again at: {', '.join(again)}.")
    return {
        "labels": fit.labels,
        "sentences": sentences,
        "srcc": None if report.validation is None else vars(report.validation.srcc),
        "curve": figures["learning_curve"],
        "text": report.as_text(),
    }


def _predicted(model: GRepQ, photos: Sequence[Photo]) -> dict[int, dict[str, Any]]:
    """Rows of `grepq predict` by number, of those photographs that can be predicted."""
    results = {photo.id: photo.result for photo in photos if photo.usable and photo.result is not None}
    return {
        number: completed("predict", result, predict_row(model, result, CONFIDENCE))
        for number, result in results.items()
    }


def _features(photos: Sequence[Photo]) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = [photo.result.features for photo in photos if photo.result is not None]
    return np.stack([row for row in rows if row is not None])


def _labels(photos: Sequence[Photo], mos: np.ndarray[Any, np.dtype[np.float64]]) -> Labels:
    return Labels(
        paths=tuple(Path(photo.name) for photo in photos),
        mos=mos,
        lines=tuple(range(2, len(photos) + 2)),
        lower_is_better=False,
        image_column="path",
        mos_column="mos",
    )
