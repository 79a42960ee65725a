"""Photoshop files, by the merged picture that they hold beside their layers."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.decoding import psd_sections
from grepq_iqa.data.decoding.finish import finish_values
from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.opening import opened
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.decoding.ranges import unit_range
from grepq_iqa.errors import ImageError

_ROUNDING = 1.5 / 255


def read_psd(data: bytes, job: Job) -> Pixels:
    """The merged picture of a Photoshop file.

    Raises:
        ImageError: it was saved without one, is of a kind that is not read, or damaged.
    """
    header = guarded(lambda: psd_sections.read_header(data), job)
    if not header.is_merged:
        reason = "is a Photoshop file that was saved without its merged picture"
        raise ImageError(job.name, reason, "save it again with maximum compatibility, or as PNG")
    if header.bits <= 8:
        with opened(io.BytesIO(data), job, ("PSD",)) as image:

            def by_pillow() -> Pixels:
                job.check_size(*image.size)
                image.load()
                keep = header.merged_alpha
                if keep and image.mode == "RGBA":
                    values = np.asarray(image)
                    keep = not _is_on_white(values[..., :3], values[..., 3], 255)
                return decode_opened(image, job, keep_alpha=keep)

            return guarded(by_pillow, job)
    job.check_size(header.width, header.height)

    def decode() -> Pixels:
        samples = psd_sections.read_merged(data, header, job.name)
        values, said = unit_range(samples.astype(samples.dtype.newbyteorder("=")), header.bits, job.name)
        job.warnings += said
        colors = 1 if header.mode == psd_sections.GRAY else 3
        alpha = values[..., colors] if values.shape[-1] > colors else None
        if alpha is not None and _is_on_white(values[..., :colors], alpha, 1):
            alpha = None
        return finish_values(values[..., :colors], alpha, job, header.icc)

    return guarded(decode, job)


def _is_on_white(colors: NDArray[np.generic], alpha: NDArray[np.generic], most: float) -> bool:
    """Whether colors are blended with white, as Photoshop does: none is darker than its transparency allows."""
    least = np.float32(most * (1 - _ROUNDING)) - alpha.astype(np.float32)
    return bool((colors.min(axis=-1) >= least).all())
