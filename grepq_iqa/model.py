"""GRepQ: the facade that users import."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa import zero_shot
from grepq_iqa.calibration.ratings import HIGHEST, LOWEST
from grepq_iqa.data.checks import image_warnings
from grepq_iqa.data.images import MAX_PIXELS, ImageSource, as_listed, decode_image, split_batch
from grepq_iqa.data.patches import patch_grid, reflect_up_to
from grepq_iqa.devices import one_blas_thread
from grepq_iqa.encoders.engine import Engine, describe
from grepq_iqa.encoders.fine_detail import CLOSE_UPS, VIEW, PreparedImage
from grepq_iqa.errors import GrepqError, ImageError, LabelsError, NotFittedError, UsageError
from grepq_iqa.results import Explanation, Prediction, Score
from grepq_iqa.weights.engines import PATCH, STRIDE, check_fitted, make_engine, torch_engine
from grepq_iqa.weights.loading import ModelComponents, load_components

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from grepq_iqa.calibration.groups import Groups
    from grepq_iqa.calibration.pairs import PairwiseRegressor
    from grepq_iqa.calibration.prior import Prior
    from grepq_iqa.calibration.regressor import MOSRegressor
    from grepq_iqa.calibration.report import FitReport
    from grepq_iqa.data.labels import Labels
    from grepq_iqa.feature_cache import FeatureCache


class GRepQ:
    """No-reference image quality: zero-shot scores, features, and predictions fitted to your own labels.

    Example:
        >>> model = GRepQ.from_pretrained()
        >>> float(model.score("photo.jpg"))  # doctest: +SKIP
        0.93

    Attributes:
        name: the model's name or directory.
        config: its config.json, in the words of the last format.
        encoder_hash: 64 hex digits that identify encoders and preprocessing.
        engine: what computes the encoders, a :class:`~grepq_iqa.encoders.engine.Engine`; ``engine.name`` is "torch" or
            "onnx".
        device: where it computes.
        dtype: the number format of the encoders, torch's; "int8" or "float32" of the engine "onnx".
        max_side: longer images are shrunk to this side; None never shrinks.
        max_pixels: images with more are refused before they are decoded, unless a reduced decoding stays below; may be
            set.
        feature_mean, feature_scale: ``(d,)`` float32 statistics of features over unlabeled in-the-wild images, or None.
        ratings: what people said of other photographs, a
            :class:`~grepq_iqa.calibration.ratings.RatingsPredictor`, or None; scores do not depend on it.
        regressor_: after :meth:`fit`, the fitted :class:`~grepq_iqa.calibration.regressor.MOSRegressor`; after
            :meth:`fit_pairs`, the :class:`~grepq_iqa.calibration.pairs.PairwiseRegressor`.
        prior_: after :meth:`fit`, the head start that it had: "none", "zero-shot", "ratings" or "both".
        lower_is_better: whether the labels fitted on measure distortion, so that the lowest prediction is the best;
            False before a fit.
    """

    regressor_: MOSRegressor | PairwiseRegressor
    prior_: str
    lower_is_better: bool = False

    def __init__(
        self,
        components: ModelComponents,
        files: Mapping[str, Path],
        *,
        name: str,
        engine: Engine | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        max_side: int | None = None,
    ) -> None:
        config = components.config
        self.name, self.config, self.encoder_hash = name, config, components.encoder_hash
        self.engine = torch_engine(components, device, dtype) if engine is None else engine
        self.max_side: int | None = config.get("max_side") if max_side is None else (max_side or None)
        self.max_pixels = MAX_PIXELS
        self._files = dict(files)
        self._components = components
        low = config["low_level"]
        self._patch = low.get("patch", PATCH)
        self._ridge = low.get("ridge", zero_shot.RIDGE)
        self._prior_patches = low.get("prior_patches")
        self._center = low.get("center")
        self._each_patch = low.get("pooling", "mean") == "median"
        self._distance_scale = low.get("distance_scale", zero_shot.DISTANCE_SCALE)
        self._logit_scale = config["high_level"].get("logit_scale", zero_shot.LOGIT_SCALE)
        self.feature_mean = components.features.get("mean")
        self.feature_scale = components.features.get("scale")
        self._quantiles = components.features.get("quantiles")
        self.ratings = components.ratings

    def __repr__(self) -> str:
        fitted = f", fitted on {self.regressor_.fitted_on}" if hasattr(self, "regressor_") else ""
        engine, dtype = describe(self.engine).split()
        how = f"engine={engine!r}, device={str(self.device)!r}, dtype={dtype!r}"
        return f"GRepQ({self.name!r}, {how}, max_side={self.max_side}{fitted})"

    @property
    def device(self) -> torch.device | str:  # noqa: D102 - among the attributes
        device: torch.device | str = self.engine.device
        return device

    @property
    def dtype(self) -> torch.dtype | str:  # noqa: D102 - among the attributes
        dtype: torch.dtype | str = self.engine.dtype
        return dtype

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        engine: str = "auto",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        max_side: int | None = None,
    ) -> GRepQ:
        """A model by name in weights.json, by directory, or as ``owner/repo[@revision]`` on the Hugging Face Hub.

        Args:
            name: None is the bundled model, which needs no network.
            revision: branch, tag or commit of a Hub repository.
            engine: "torch"; "onnx", which computes on the CPU by ONNX Runtime without importing torch; or "auto": onnx
                in int8 where onnxruntime is installed, the model has a graph, the processor multiplies int8 natively,
                and neither device nor dtype is given; a fitted model keeps to the engine it was fitted with.
                docs/engine.md has the details.
            device: "auto", "cpu", "cuda" or "mps", or torch's own.
            dtype: "auto", "float32", "bfloat16" or "float16", or torch's own; auto is bfloat16 where the device
                computes it natively. Of the engine onnx: "int8" or "float32".
            cache_dir: where downloads go; by default where huggingface_hub keeps them.
            local_files_only: never ask the network.
            token: for private repositories; by default the one that ``hf auth login`` saved.
            max_side: shrink longer images to this side before encoding; None takes the model's own, 0 never shrinks.

        Raises:
            WeightsError: the model cannot be found, fetched, verified or read.
            UsageError: an unknown engine, device or dtype, or one that cannot stand in for that of a fitted model.
        """
        from grepq_iqa.weights import resolve

        resolved = resolve(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        components = load_components(resolved.name, resolved.files)
        model = cls(
            components,
            resolved.files,
            name=resolved.name,
            engine=make_engine(components, engine, device, dtype),
            max_side=max_side,
        )
        if "calibration.safetensors" in resolved.files:
            from grepq_iqa.calibration.storage import read_calibration

            ratings_hash = model.ratings.hash if model.ratings else None
            fit = read_calibration(resolved.files, model.encoder_hash, resolved.name, ratings_hash)
            model.regressor_, side, model.prior_, model.lower_is_better = fit
            check_fitted(components, model.engine)
            if max_side is None and side is not None:
                model.max_side = side or None  # predictions see pictures as the fit did
        return model

    @overload
    def score(self, images: ImageSource, *, errors: Literal["raise"] = "raise") -> Score: ...  # type: ignore[overload-overlap]  # a str is a sequence, too
    @overload
    def score(self, images: Iterable[ImageSource], *, errors: Literal["raise"] = "raise") -> list[Score]: ...
    @overload
    def score(self, images: ImageSource, *, errors: Literal["keep"]) -> Score | ImageError: ...  # type: ignore[overload-overlap]
    @overload
    def score(self, images: Iterable[ImageSource], *, errors: Literal["keep"]) -> list[Score | ImageError]: ...

    def score(
        self, images: ImageSource | Iterable[ImageSource], *, errors: Literal["raise", "keep"] = "raise"
    ) -> Score | ImageError | list[Score] | list[Score | ImageError]:
        """Zero-shot quality: a :class:`Score` for one image, a list of them for several.

        Args:
            images: one source that :func:`~grepq_iqa.load_image` takes, or several of any sizes: a list, a column of a
                table, an array of paths, the values of a dictionary, a generator, or a ``(B, C, H, W)`` tensor.
            errors: "raise" stops at the first image that cannot be used. "keep" goes on and returns the
                :class:`~grepq_iqa.ImageError` itself in that image's place, so that results stay in step with images:
                ``[s for s in results if isinstance(s, Score)]`` are the usable ones.

        Raises:
            ImageError: an image cannot be used, and ``errors`` is "raise".
            UsageError: another value of ``errors``, or a table or a dictionary in place of images.
        """
        if errors not in ("raise", "keep"):
            raise UsageError(f'errors is "raise" or "keep", got {errors!r}')
        sources, single = split_batch(images)
        scores = self._score_sources(sources, keep_errors=errors == "keep")[0]
        return scores[0] if single else scores

    def features(self, images: ImageSource | Iterable[ImageSource]) -> NDArray[np.float32]:
        """Features for regression, ``(n, d)``: high level, then low level (docs/method.md, section 3).

        Raises:
            ImageError: an image cannot be used.
        """
        return self._score_sources(split_batch(images)[0])[1]

    def score_and_features(
        self, images: ImageSource | Iterable[ImageSource]
    ) -> tuple[list[Score], NDArray[np.float32]]:
        """Scores and features ``(n, d)`` of a list of images in one pass.

        Raises:
            ImageError: an image cannot be used.
        """
        return self._score_sources(split_batch(images)[0])

    def score_frame(
        self,
        images: Any,
        *,
        column: str | None = None,
        predict: bool = False,
        confidence: float = 0.9,
        cache: FeatureCache | None = None,
    ) -> pd.DataFrame:
        """Scores of many files as a DataFrame: errors are a column, and a broken file costs the others nothing.

        Args:
            images: paths, one or many, or a Series of them, or a DataFrame, whose columns and index are kept.
            column: of the DataFrame, that holds the paths; by default the one named path, image, file or filename.
            predict: whether to add mos, low and high as `predict` gives them.
            confidence: of the intervals, in (0, 1).
            cache: knows files that were seen before: a :class:`~grepq_iqa.feature_cache.FeatureCache`.

        Returns:
            Columns path (or the table's own), mos, low, high where asked for, score, low_level, high_level, percentile,
            warnings (a list of sentences) and error (None when all went well); numbers are NaN beside an error.

        Raises:
            UsageError: pandas is not installed, or the table has no such column, or has one of ours already.
            NotFittedError: predictions are asked of a model that has none.
        """
        from grepq_iqa.frames import score_frame

        return score_frame(self, images, column=column, predict=predict, confidence=confidence, cache=cache)

    @overload
    def explain(self, images: ImageSource, *, map: bool = False) -> Explanation: ...  # type: ignore[overload-overlap]
    @overload
    def explain(self, images: Iterable[ImageSource], *, map: bool = False) -> list[Explanation]: ...

    def explain(
        self, images: ImageSource | Iterable[ImageSource], *, map: bool = False
    ) -> Explanation | list[Explanation]:
        """Why images are poor, as amounts and in words, and with ``map`` where (docs/explain.md).

        Args:
            images: as for :meth:`score`.
            map: fill :attr:`Explanation.map`.

        Raises:
            ImageError: an image cannot be used.
        """
        from grepq_iqa.explain.explanation import explain_image

        sources, single = split_batch(images)
        found = [
            explain_image(source, self.score, max_side=self.max_side, max_pixels=self.max_pixels, map=map)
            for source in sources
        ]
        return found[0] if single else found

    def fit(
        self,
        images: ImageSource | Iterable[ImageSource] | None = None,
        mos: ArrayLike | Iterable[float] = (),
        *,
        features: ArrayLike | None = None,
        prior: Prior = "auto",
        groups: ArrayLike | Sequence[object] | None = None,
        weights: ArrayLike | None = None,
        lower_is_better: bool = False,
        **options: Any,
    ) -> GRepQ:
        """Learn your own scale from labeled images.

        Copies of a picture, saved again, resized or cropped a little, count as one image: they are found by their
        features and, where images are given, by their pixels (`grepq_iqa.calibration.groups`), so that intervals do not
        rest on what the model remembers.

        Args:
            images: as for :meth:`score`; None where ``features`` are given.
            mos: n mean opinion scores on any scale, in the order of the images (an index of a table's column is not
                looked at); predictions keep their direction.
            features: ``(n, d)`` from :meth:`features`, in place of the images.
            prior: head start (docs/method.md, section 3): "zero-shot" adds Q_H to the features, "ratings" what people
                said of other photographs, "both" the two, "none" nothing, which is the paper's protocol. "auto" is
                "both", or "zero-shot" for a model without ratings.
            groups: ``(n,)``, equal for images that are not independent, such as frames of a burst; None or "" for one
                that stands for itself. Joined with the copies that are found.
            weights: ``(n,)``, how much each label counts, positive; None: all the same.
            lower_is_better: whether labels measure distortion, as DMOS does. Predictions are the same either way; it is
                noted for whatever puts them in order.
            options: passed to :class:`~grepq_iqa.calibration.regressor.MOSRegressor`, such as ``alphas``.

        Returns:
            self, with ``regressor_``, ``prior_`` and ``lower_is_better``.

        Raises:
            ImageError: an image cannot be used.
            LabelsError: too few, constant, non-finite or mismatched labels, said before any image is read; labels of
                fewer than 3 different images.
            UsageError: neither or both of images and features, or a prior that the model cannot give.
        """
        from grepq_iqa.calibration.groups import find_groups
        from grepq_iqa.calibration.prior import resolved
        from grepq_iqa.calibration.regressor import checked_mos
        from grepq_iqa.data.thumbnails import gray_thumbnail

        _require_one(images, features)
        prior_ = resolved(prior, ratings=self.ratings is not None)
        sources = [] if images is None else split_batch(images)[0]
        count = len(np.asarray(features)) if features is not None else len(sources)
        labels = np.asarray(as_listed(mos))
        if count != len(labels):
            hint = "; pass features= for an array of them" if isinstance(images, np.ndarray) else ""
            raise LabelsError(f"{count} images but {len(labels)} labels{hint}")
        labels = checked_mos(labels, count)
        rows = self.features(sources) if features is None else features
        try:
            found = find_groups(
                rows,
                names=as_listed(groups),
                # A stream has been read by now.
                thumbnails=[
                    None if hasattr(one, "read") else gray_thumbnail(one, max_pixels=self.max_pixels) for one in sources
                ]
                or None,
                feature_mean=options.get("feature_mean", self.feature_mean),
                feature_scale=options.get("feature_scale", self.feature_scale),
            )
            rows, regressor = self.regression(rows, prior_, **options)
            self.regressor_, self.prior_ = regressor.fit(rows, labels, found.units, as_listed(weights)), prior_
            self.lower_is_better = lower_is_better
        except GrepqError:  # some of which are ValueErrors
            raise
        except ValueError as error:
            raise LabelsError(str(error)) from error
        return self

    def fit_pairs(
        self,
        features: ArrayLike,
        pairs: ArrayLike,
        outcomes: ArrayLike,
        *,
        mos: ArrayLike | None = None,
        prior: Prior = "auto",
        groups: ArrayLike | None = None,
        **options: Any,
    ) -> GRepQ:
        """Learn your own scale from comparisons (`grepq_iqa.calibration.pairs`), anchored by labels if there are any.

        Args:
            features: ``(n, d)`` from :meth:`features`.
            pairs: ``(m, 2)``, rows of features that were compared, left and right.
            outcomes: ``(m,)``, 1 where the left one is better, 0 where the right one is, 0.5 for a tie.
            mos: ``(n,)``, labels, higher is better, NaN where none was given. Without any, predictions are log-odds of
                being preferred to an ordinary photograph.
            prior: head start, as for :meth:`fit`.
            groups: ``(n,)``, equal for copies of one picture.
            options: passed to :class:`~grepq_iqa.calibration.pairs.PairwiseRegressor`, such as ``alphas``.

        Raises:
            LabelsError, UsageError: as of :meth:`fit`.
        """
        from grepq_iqa.calibration.pairs import PairwiseRegressor
        from grepq_iqa.calibration.prior import resolved

        prior_ = resolved(prior, ratings=self.ratings is not None)
        rows, ridge = self.regression(features, prior_)
        given = {name: getattr(ridge, name) for name in ("feature_mean", "feature_scale", "clip", "unclipped")}
        self.regressor_ = PairwiseRegressor(**given | options).fit(rows, pairs, outcomes, mos, groups)
        self.prior_, self.lower_is_better = prior_, False
        return self

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource] | None = None,
        confidence: float = 0.9,
        *,
        features: ArrayLike | None = None,
    ) -> Prediction:
        """MOS and its interval for images.

        After a fit, on the scale of its labels, with intervals by the jackknife+ (Barber et al. 2021). Before any,
        what people would be expected to say on a scale from 0 to 100, learned from others' ratings of other
        photographs, with intervals by the quantiles of its residuals there.

        Args:
            images: as for :meth:`score`; None where ``features`` are given.
            confidence: of the intervals, in [0.5, 1).
            features: ``(n, d)`` from :meth:`features`, in place of the images.

        Raises:
            NotFittedError: neither fitted nor loaded fitted, and the model has no ratings.
            ImageError: an image cannot be used.
            UsageError: neither or both of images and features, or a confidence out of range.
        """
        fitted = hasattr(self, "regressor_")
        if not fitted and self.ratings is None:
            raise NotFittedError(
                f"model {self.name!r} has seen no labels: call fit(images, mos), or load a fitted model"
            )
        if not 0.5 <= confidence < 1:  # before minutes of features
            raise UsageError(f"confidence must be at least 0.5 and less than 1, got {confidence}")
        _require_one(images, features)
        single = False
        rows: ArrayLike = () if features is None else features
        if features is None:
            sources, single = split_batch(images)
            rows = self.features(sources)
        if fitted:
            rows = self._with_prior(rows, self.prior_)
            mos = self.regressor_.predict(rows)
            low, high = self.regressor_.predict_interval(rows, confidence)
        else:
            assert self.ratings is not None  # refused above
            opinion = self.ratings.opinion(rows, self.high_level_scores(rows))
            mos = np.clip(opinion, LOWEST, HIGHEST)
            low, high = self.ratings.interval(opinion, confidence)
        source = self.regressor_.source if fitted else "ratings"
        if single:
            return Prediction(float(mos[0]), float(low[0]), float(high[0]), confidence, source)
        return Prediction(mos, low, high, confidence, source)

    def regression(
        self, features: ArrayLike, prior: Prior = "auto", **options: Any
    ) -> tuple[NDArray[np.float64], MOSRegressor]:
        """What :meth:`fit` fits: rows of features and head start ``(n, d + k)``, and the unfitted regressor for them.

        Args:
            features: ``(n, d)`` from :meth:`features`.
            prior: as for :meth:`fit`.
            options: likewise.

        Raises:
            UsageError: features of another shape or not finite, or a prior that the model cannot give.
        """
        from grepq_iqa.calibration.prior import column_names, column_statistics, resolved
        from grepq_iqa.calibration.regressor import MOSRegressor, feature_statistics

        prior = resolved(prior, ratings=self.ratings is not None)
        given = {"feature_mean": self.feature_mean, "feature_scale": self.feature_scale} | options
        rows = self._with_prior(features, prior)
        if prior == "none":
            return rows, MOSRegressor(**given)
        names = column_names(prior)
        known = {}
        if self._quantiles is not None:
            known["zero-shot"] = (float(np.mean(self._quantiles)), float(np.std(self._quantiles)))
        if self.ratings is not None:
            known["ratings"] = (float(self.ratings.expected[0]), float(self.ratings.expected[1]))
        k = len(names)
        columns = dict(zip(names, rows[:, -k:].T, strict=True))
        own = feature_statistics(rows[:, :-k], given["feature_mean"], given["feature_scale"])
        statistics = [np.append(a, b) for a, b in zip(own, column_statistics(columns, known), strict=True)]
        # Opinions part more about some photographs than about others, and the last column tells about which.
        spread = None if self.ratings is None or names[-1] != "ratings" else self.ratings.spread
        settings = {"feature_mean": statistics[0], "feature_scale": statistics[1], "unclipped": k, "spread": spread}
        return rows, MOSRegressor(**given | settings)

    def report(
        self,
        features: ArrayLike,
        labels: Labels,
        scores: Sequence[float],
        *,
        groups: Groups | None = None,
        confidence: float = 0.9,
        seed: int = 0,
    ) -> FitReport:
        """How good the fit on single images is, by fitting it anew without some of its labels.

        Args:
            features: ``(n, d)``, those that it was fitted on, row by row of ``labels``.
            labels: the table.
            scores: zero-shot scores ``(n,)``.
            groups: rows that are not independent, as they were fitted on; None: every row stands for itself.
            confidence: of the intervals.
            seed: of the splits into folds.

        Raises:
            NotFittedError: it was not fitted on single images.
        """
        from grepq_iqa.calibration.regressor import MOSRegressor
        from grepq_iqa.calibration.report import report_fit

        fitted = getattr(self, "regressor_", None)
        if not isinstance(fitted, MOSRegressor):
            raise NotFittedError(f"model {self.name!r} was not fitted on labels of single images")
        expected = None if self.ratings is None else self.ratings.opinion(features, self.high_level_scores(features))
        return report_fit(
            fitted,
            self._with_prior(features, self.prior_),
            labels,
            scores,
            groups=groups,
            expected=expected,
            without_prior=None if self.prior_ == "none" else self.regression(features, "none"),
            prior=self.prior_,
            confidence=confidence,
            seed=seed,
        )

    def high_level_scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """Q_H ``(n,)`` of features ``(n, d)``: the part of the zero-shot score that they determine.

        Raises:
            UsageError: features of another shape.
        """
        rows = np.asarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.feature_dim:
            raise UsageError(f"features have shape {rows.shape} where (n, {self.feature_dim}) is expected")
        with one_blas_thread():
            embeddings = self._embed(rows)
        return np.array([self._high_level_score(embedding) for embedding in embeddings], dtype=np.float64)

    def projected(self, features: ArrayLike) -> NDArray[np.float64]:
        """What features ``(n, d)`` say along good - bad ``(n,)``: the embedding's length in that direction.

        It grows with Q_H, which is the sigmoid of its share of the embedding's length.
        """
        with one_blas_thread():
            embeddings = self._embed(np.asarray(features, dtype=np.float32))
        axis = self._components.prompts["good"] - self._components.prompts["bad"]
        along: NDArray[np.float64] = embeddings @ axis / np.linalg.norm(axis)
        return along

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write the model directory, with the fitted regressor if there is one; returns the directory."""
        from grepq_iqa.calibration.storage import write_directory
        from grepq_iqa.weights.manifest import MODEL_FILES

        return write_directory(
            Path(directory),
            self._files,
            self.encoder_hash,
            getattr(self, "regressor_", None),
            self.max_side,
            prior=getattr(self, "prior_", "none"),
            ratings_hash=self.ratings.hash if self.ratings else None,
            engine=describe(self.engine),
            features_hash=self.engine.features_hash,
            agreement=self.engine.agreement,
            lower_is_better=self.lower_is_better,
            known=MODEL_FILES,
        )

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, revision: str | None = None
    ) -> str:
        """Upload the model directory to the Hugging Face Hub, to the branch ``revision``; returns the commit's URL."""
        import tempfile

        from grepq_iqa.weights.publish import push_to_hub

        with tempfile.TemporaryDirectory() as folder:
            return push_to_hub(self.save_pretrained(folder), repo_id, private=private, token=token, revision=revision)

    @property
    def features_hash(self) -> str:
        """64 hex digits for weights and engine: the weights' own hash for torch, the graph's for onnx."""
        return self.engine.features_hash

    @property
    def predictor_hash(self) -> str | None:
        """64 hex digits that tell apart what predicts: a fit, else others' ratings; None where nothing does."""
        if hasattr(self, "regressor_"):
            return hashlib.sha256(self.regressor_.coef_.tobytes()).hexdigest()
        return None if self.ratings is None else self.ratings.hash

    @property
    def feature_dim(self) -> int:
        """d, the length of a feature vector."""
        return self._components.feature_dim

    @property
    def batch_pixels(self) -> int:
        """How many pixels of equally large images are worth one forward pass on this device."""
        return self.engine.batch_pixels

    def percentile(self, score: float) -> float | None:
        """The share of unlabeled in-the-wild images whose Q is lower, 0 to 100; None where the model has no table."""
        if self._quantiles is None:
            return None
        return float(np.interp(score, self._quantiles, np.linspace(0, 100, len(self._quantiles))))

    def _score_sources(
        self, sources: Sequence[Any], *, keep_errors: bool = False
    ) -> tuple[list[Any], NDArray[np.float32]]:
        """Scores and features ``(n, d)``; a kept error stands for its score, with a row of NaN."""
        scores: list[Score | ImageError] = []
        features = np.empty((len(sources), self.feature_dim), dtype=np.float32)
        pending: list[PreparedImage] = []

        def flush() -> None:
            for score, vector in self.score_prepared(pending):
                features[len(scores)] = vector
                scores.append(score)
            pending.clear()

        for source in sources:
            try:
                image = self.prepare(source)
            except ImageError as error:
                if not keep_errors:
                    raise
                if pending:
                    flush()
                features[len(scores)] = np.nan
                scores.append(ImageError(error.source, error.reason, error.hint))  # without the frames of its traceback
                continue
            shape = image.decoded.values.shape
            full = (len(pending) + 1) * shape[-2] * shape[-1] > self.batch_pixels
            if pending and (full or pending[0].decoded.values.shape != shape):
                flush()
            pending.append(image)
        if pending:
            flush()
        return scores, features

    def prepare(self, source: ImageSource) -> PreparedImage:
        """Decode a source and measure its fine detail: what many threads can do ahead of `score_prepared`.

        Raises:
            ImageError: it cannot be used.
        """
        fine = self._components.fine_detail
        close_up = (VIEW, CLOSE_UPS) if fine and self.max_side else None
        decoded = decode_image(source, max_side=self.max_side, max_pixels=self.max_pixels, close_up=close_up)
        if fine is None:
            return PreparedImage(decoded, None)
        amounts = fine(reflect_up_to(decoded.values, self._patch), decoded.close_ups)
        return PreparedImage(replace(decoded, close_ups=()), amounts)  # so that waiting pictures hold no more

    def score_tensors(
        self, images: Sequence[NDArray[np.float32] | torch.Tensor]
    ) -> list[tuple[Score, NDArray[np.float32]]]:
        """Score and features of loaded images ``(3, H, W)`` of one size.

        Args:
            images: float32 in [0, 1], NumPy arrays or tensors on the CPU.
        """
        arrays = [np.asarray(image, dtype=np.float32) for image in images]
        fine = self._components.fine_detail
        amounts = [None if fine is None else fine(reflect_up_to(image, self._patch)) for image in arrays]
        return self._score_arrays(arrays, amounts)

    def score_prepared(self, images: Sequence[PreparedImage]) -> list[tuple[Score, NDArray[np.float32]]]:
        """Score and features of what :meth:`prepare` gave, of one size; the lower floor of every public method."""
        found = self._score_arrays([one.decoded.values for one in images], [one.amounts for one in images])
        return [
            (score.with_warnings(image.decoded.warnings), vector)
            for image, (score, vector) in zip(images, found, strict=True)
        ]

    def _score_arrays(
        self, arrays: list[NDArray[np.float32]], amounts: list[NDArray[np.float32] | None]
    ) -> list[tuple[Score, NDArray[np.float32]]]:
        padded = np.stack([reflect_up_to(image, self._patch) for image in arrays])
        encoded = self.engine.encode(padded)
        weights = self._patch_weights(*padded.shape[-2:])
        fine = [np.stack([one for one in amounts if one is not None])] if self._components.fine_detail else []
        features = np.concatenate([encoded.high, encoded.low, *fine], axis=1)
        found = []
        with one_blas_thread():
            for i, embedding in enumerate(self._embed(features)):
                distance = self._distance(encoded.patches[i], encoded.low.shape[1], weights)
                found.append((self._score(distance, embedding, image_warnings(arrays[i], self._patch)), features[i]))
        return found

    def _patch_weights(self, height: int, width: int) -> NDArray[np.float64] | None:
        """Of every patch of a padded picture, where those in the middle count for more; None: all alike."""
        if self._center is None:
            return None
        low = self.config["low_level"]
        dense = low.get("evaluation") == "dense"
        grid = patch_grid(height, width, self._patch, low.get("stride", STRIDE), dense)
        return zero_shot.center_weights(*grid, self._center)

    def _embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings ``(n, dim)`` of features ``(n, d)``."""
        components = self._components
        high = features[:, : components.high_level_dim]
        embeddings = high if components.projection is None else components.projection(high)
        shifts = []
        if components.fine_detail is not None:
            shifts.append(components.fine_detail.shift(features[:, components.encoded_dim :]))
        if components.predicted_fsim is not None:
            shifts.append(components.predicted_fsim.shift(features))
        if not shifts:
            return embeddings
        axis = components.prompts["good"] - components.prompts["bad"]
        return embeddings + np.outer(sum(shifts), axis / np.linalg.norm(axis)).astype(np.float32)

    def _distance(self, patches: Iterable[NDArray[np.float32]], dim: int, weights: NDArray[np.float64] | None) -> float:
        """From pristine patches to a picture's, which come in chunks ``(n, dim)``."""
        moments, kept = zero_shot.Moments(dim), []
        for vectors in patches:
            moments.update(vectors, None if weights is None else weights[moments.count :][: len(vectors)])
            if self._each_patch:
                kept.append(vectors)
        distances = zero_shot.distance_to_pristine(
            np.concatenate(kept) if kept else moments.mean,
            moments.covariance,
            self._components.pristine_mean,
            self._components.pristine_covariance,
            self._ridge,
            zero_shot.own_share(moments.effective_count, self._prior_patches),
        )
        return zero_shot.weighted_median(distances, weights if kept else None)

    def _score(self, distance: float, embedding: NDArray[Any], warnings: tuple[str, ...]) -> Score:
        low = zero_shot.low_level_quality(distance, self._distance_scale)
        high = self._high_level_score(embedding)
        return Score(low + high, low, high, self.percentile(low + high), warnings)

    def _high_level_score(self, embedding: NDArray[Any]) -> float:
        good, bad = self._components.prompts["good"], self._components.prompts["bad"]
        return zero_shot.high_level_quality(embedding, good, bad, self._logit_scale)

    def _with_prior(self, features: ArrayLike, prior: str) -> NDArray[np.float64]:
        """Features ``(n, d)`` as float64, and behind them the columns of a resolved prior."""
        from grepq_iqa.calibration.prior import column_names, with_columns

        names = column_names(prior)
        rows = np.asarray(features, dtype=np.float64)
        if not names:
            return rows
        zero_shot_part = self.high_level_scores(rows)
        columns = {"zero-shot": zero_shot_part}
        if self.ratings is not None:
            columns["ratings"] = self.ratings.opinion(rows, zero_shot_part)
        return with_columns(rows, {name: columns[name] for name in names})


def _require_one(images: object, features: object) -> None:
    """Refuse neither or both of images and features.

    Raises:
        UsageError: that is the case.
    """
    if (images is None) == (features is None):
        raise UsageError("give either images or features=")
