"""GRepQ: the facade that users import."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa import zero_shot
from grepq_iqa.data.checks import inspect
from grepq_iqa.data.images import load_image, split_batch
from grepq_iqa.data.patches import iter_patches, reflect_up_to
from grepq_iqa.devices import autocast, choose_device, choose_dtype, one_blas_thread
from grepq_iqa.encoders.inference import prepare_for_inference
from grepq_iqa.errors import LabelsError, NotFittedError, UsageError
from grepq_iqa.results import Prediction, Score
from grepq_iqa.weights.loading import Parts, load_parts

if TYPE_CHECKING:
    from grepq_iqa.calibration.regressor import MOSRegressor

BATCH_PIXELS_CPU, BATCH_PIXELS = 1 << 18, 1 << 22
"""Images of one size share a forward pass up to this many pixels. On a CPU that makes pictures of 96 pixels some three
times faster and those of 512 no faster, so those go alone."""


class GRepQ:
    """No-reference image quality: zero-shot scores, features, and predictions fitted to your own labels.

    Example:
        >>> model = GRepQ.from_pretrained()
        >>> float(model.score("photo.jpg"))  # doctest: +SKIP
        0.93

    Attributes:
        name: the model's name or directory.
        config: its config.json.
        encoder_hash: 64 hex digits that identify encoders and preprocessing.
        feature_mean, feature_scale: ``(d,)`` float32 statistics of features over ordinary photographs, or None.
        regressor_: after :meth:`fit`, the fitted :class:`~grepq_iqa.calibration.regressor.MOSRegressor`.
    """

    def __init__(
        self,
        parts: Parts,
        files: Mapping[str, Path],
        *,
        name: str,
        device: str = "auto",
        dtype: str = "auto",
        max_side: int | None = None,
    ) -> None:
        self.name, self.config, self.encoder_hash = name, parts.config, parts.encoder_hash
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.max_side = parts.config.get("max_side") if max_side is None else (max_side or None)
        self._files = dict(files)
        self._parts = parts
        for encoder in (parts.low_level, parts.high_level):
            prepare_for_inference(encoder, self.device, self.dtype)
        low = parts.config["low_level"]
        self._patch, self._stride = low.get("patch", 96), low.get("stride", 48)
        self._dense = low.get("evaluation", "exact") == "dense"
        self._distance_scale = low.get("distance_scale", zero_shot.DISTANCE_SCALE)
        self._logit_scale = parts.config["high_level"].get("logit_scale", zero_shot.LOGIT_SCALE)
        self.feature_mean = parts.features.get("mean")
        self.feature_scale = parts.features.get("scale")
        self._quantiles = parts.features.get("quantiles")

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        max_side: int | None = None,
    ) -> GRepQ:
        """A model by name in weights.json, by directory, or as ``owner/repo[@revision]`` on the Hugging Face Hub.

        Args:
            name: None is the bundled model, which needs no network.
            revision: branch, tag or commit of a Hub repository.
            device: "auto", "cpu", "cuda" or "mps".
            dtype: "auto", "float32", "bfloat16" or "float16"; auto is bfloat16 where the device computes it natively.
            cache_dir: where downloads go; by default where huggingface_hub keeps them.
            local_files_only: never ask the network.
            token: for private repositories; by default the one that ``hf auth login`` saved.
            max_side: shrink longer images to this side before encoding; None takes the model's own, 0 never shrinks.

        Raises:
            WeightsError: the model cannot be found, fetched, verified or read.
            UsageError: an unknown device or dtype.
        """
        from grepq_iqa.weights import resolve

        resolved = resolve(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        model = cls(
            load_parts(resolved.name, resolved.files),
            resolved.files,
            name=resolved.name,
            device=device,
            dtype=dtype,
            max_side=max_side,
        )
        if "calibration.safetensors" in resolved.files:
            from grepq_iqa.calibration.storage import read_fitted

            model.regressor_, side = read_fitted(resolved.files, model.encoder_hash, resolved.name)
            if max_side is None and side is not None:
                model.max_side = side or None  # predictions see pictures as the fit did
        return model

    def score(self, images: Any) -> Any:
        """Zero-shot quality: a :class:`Score` for one image, a list of them for several.

        Args:
            images: one source that :func:`~grepq_iqa.load_image` takes, or a list of them of any sizes, or a
                ``(B, C, H, W)`` tensor.

        Raises:
            ImageError: an image cannot be used.
        """
        sources, single = split_batch(images)
        scores, _ = self._analyse_sources(sources)
        return scores[0] if single else scores

    def features(self, images: Any) -> NDArray[np.float32]:
        """Features for regression, float32 ``(n, d)``: high level, then low level (METHOD section 3).

        Raises:
            ImageError: an image cannot be used.
        """
        return self._analyse_sources(split_batch(images)[0])[1]

    def analyse(self, images: Any) -> tuple[list[Score], NDArray[np.float32]]:
        """Scores and features of a list of images in one pass."""
        return self._analyse_sources(split_batch(images)[0])

    def fit(self, images: Any, mos: Sequence[float] | NDArray, **options: Any) -> GRepQ:
        """Learn your own scale from labelled images.

        Args:
            images: as for :meth:`score`, or a float array ``(n, d)`` of features from :meth:`features`.
            mos: n mean opinion scores on any scale; predictions keep their direction.
            options: passed to :class:`~grepq_iqa.calibration.regressor.MOSRegressor`, such as ``alphas``.

        Returns:
            self, with ``regressor_``.

        Raises:
            ImageError: an image cannot be used.
            LabelsError: too few, constant, non-finite or mismatched labels.
        """
        from grepq_iqa.calibration.regressor import MOSRegressor

        labels = np.asarray(mos, dtype=np.float64)
        given = images if self._is_features(images) else split_batch(images)[0]
        if len(given) != len(labels):
            raise LabelsError(f"{len(given)} images but {len(labels)} labels")
        features = given if self._is_features(images) else self.features(given)
        options = {"feature_mean": self.feature_mean, "feature_scale": self.feature_scale} | options
        regressor: MOSRegressor = MOSRegressor(**options)
        try:
            self.regressor_ = regressor.fit(features, labels)
        except LabelsError:
            raise
        except ValueError as error:
            raise LabelsError(str(error)) from error
        return self

    def predict(self, images: Any, confidence: float = 0.9) -> Prediction:
        """MOS and its interval for images, or for features ``(n, d)``, by the jackknife+ (Barber et al. 2021).

        Raises:
            NotFittedError: neither fitted nor loaded fitted.
            ImageError: an image cannot be used.
        """
        if not hasattr(self, "regressor_"):
            raise NotFittedError(
                f"model {self.name!r} has seen no labels: call fit(images, mos), or load a fitted model"
            )
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must be between 0 and 1, got {confidence}")
        single = False
        features = images
        if not self._is_features(images):
            sources, single = split_batch(images)
            features = self.features(sources)
        mos = self.regressor_.predict(features)
        low, high = self.regressor_.predict_interval(features, confidence)
        if single:
            return Prediction(float(mos[0]), float(low[0]), float(high[0]), confidence)
        return Prediction(mos, low, high, confidence)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write the model directory, with the fitted regressor if there is one; returns the directory."""
        from grepq_iqa.calibration.storage import write_directory

        return write_directory(
            Path(directory),
            self._files,
            self.config,
            self.encoder_hash,
            getattr(self, "regressor_", None),
            self.max_side,
        )

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, revision: str | None = None
    ) -> str:
        """Upload the model directory to the Hugging Face Hub, to the branch ``revision``; returns the commit's URL."""
        import tempfile

        from grepq_iqa.weights.publish import push_to_hub

        with tempfile.TemporaryDirectory() as folder:
            return push_to_hub(self.save_pretrained(folder), repo_id, private=private, token=token, revision=revision)

    # --- one image at a time, in batches of equal size ------------------------------------------------------------

    def _is_features(self, images: Any) -> bool:
        return isinstance(images, np.ndarray) and images.ndim == 2 and images.shape[1] == self.feature_dim

    @property
    def feature_dim(self) -> int:
        """d, the length of a feature vector."""
        return self._parts.high_level.feature_dim + self._parts.low_level.dim

    @property
    def batch_pixels(self) -> int:
        """How many pixels of equally large images are worth one forward pass on this device."""
        return BATCH_PIXELS_CPU if self.device.type == "cpu" else BATCH_PIXELS

    def _analyse_sources(self, sources: Sequence[Any]) -> tuple[list[Score], NDArray[np.float32]]:
        scores: list[Score | None] = [None] * len(sources)
        features = np.empty((len(sources), self.feature_dim), dtype=np.float32)
        pending: list[tuple[int, Tensor]] = []

        def flush() -> None:
            batch = [image for _, image in pending]
            for (index, _), (score, feature) in zip(pending, self.analyse_tensors(batch), strict=True):
                scores[index], features[index] = score, feature
            pending.clear()

        for index, source in enumerate(sources):
            image = load_image(source, max_side=self.max_side)
            full = (len(pending) + 1) * image[0].numel() > self.batch_pixels
            if pending and (full or pending[0][1].shape != image.shape):
                flush()
            pending.append((index, image))
        if pending:
            flush()
        return scores, features  # type: ignore[return-value]

    @torch.inference_mode()
    def analyse_tensors(self, images: Sequence[Tensor]) -> list[tuple[Score, NDArray[np.float32]]]:
        """Score and features of loaded images ``(3, H, W)`` of one size; the lower floor of every public method."""
        batch = torch.stack([reflect_up_to(image, self._patch) for image in images])
        batch = batch.to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.dtype), one_blas_thread():
            low_whole, low_patches = self._low_level(batch)
            high = self._parts.high_level(batch)
        embeddings = high.embedding.float().cpu().numpy()
        features = torch.cat([high.features.float(), low_whole.float()], dim=1).cpu().numpy()
        with one_blas_thread():
            return [
                (self._score(patches, embedding, inspect(image, self._patch)), feature)
                for patches, embedding, image, feature in zip(low_patches, embeddings, images, features, strict=True)
            ]

    def _low_level(self, batch: Tensor) -> tuple[Tensor, list[zero_shot.Moments]]:
        """Features of the whole images ``(B, 128)``, and the moments of each one's patch features."""
        encoder = self._parts.low_level
        moments = [zero_shot.Moments(encoder.dim) for _ in batch]
        if self._dense:
            # One pass over the picture; a patch is a 3x3 window of the map (96 / 32), every cell of it a position.
            feature_map = encoder.trunk(batch)
            window = self._patch // 32
            patches = F.avg_pool2d(feature_map.float(), window, stride=1).flatten(2).transpose(1, 2)
            for moment, vectors in zip(moments, encoder.head(patches).float().cpu().numpy(), strict=True):
                moment.update(vectors)
            return encoder.head(feature_map.mean(dim=(2, 3))), moments
        for moment, image in zip(moments, batch, strict=True):
            for patches in iter_patches(image, self._patch, self._stride):
                moment.update(encoder(patches.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
        return encoder(batch), moments

    def _score(self, patches: zero_shot.Moments, embedding: NDArray, warnings: tuple[str, ...]) -> Score:
        parts = self._parts
        distance = zero_shot.distance_to_pristine(
            patches.mean, patches.covariance, parts.pristine_mean, parts.pristine_covariance
        )
        low = zero_shot.low_level_quality(distance, self._distance_scale)
        high = zero_shot.high_level_quality(embedding, parts.prompts["good"], parts.prompts["bad"], self._logit_scale)
        return Score(low + high, low, high, self._percentile(low + high), warnings)

    def _percentile(self, value: float) -> float | None:
        if self._quantiles is None:
            return None
        return float(np.interp(value, self._quantiles, np.linspace(0, 100, len(self._quantiles))))
