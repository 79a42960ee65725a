"""Raw files of cameras, by the preview that the camera put into them."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.jpeg import read_jpeg
from grepq_iqa.data.decoding.opening import opened
from grepq_iqa.data.decoding.pillow_images import decode_opened

LEAST_PREVIEW = 640
"""A preview with a shorter long side, and not the sensor's, is a thumbnail: the sensor's values are developed."""


def read_raw(file: Any, job: Job) -> Pixels:
    """The preview that the camera put into the file; where there is no fair one, the sensor's values developed."""
    import rawpy

    def take() -> Any:
        file.seek(0)
        with rawpy.imread(file) as raw:
            job.check_size(raw.sizes.width, raw.sizes.height)
            with suppress(rawpy.LibRawError):
                thumb = raw.extract_thumb()
                if thumb.format == rawpy.ThumbFormat.JPEG:
                    with opened(io.BytesIO(bytes(thumb.data)), job, ("JPEG",)) as preview:
                        fair = max(preview.size) >= min(LEAST_PREVIEW, raw.sizes.width)
                    if fair:
                        return bytes(thumb.data)
                elif not isinstance(thumb.data, bytes) and max(thumb.data.shape[:2]) >= min(
                    LEAST_PREVIEW, raw.sizes.width
                ):
                    return np.ascontiguousarray(np.rot90(thumb.data, {3: 2, 5: 1, 6: 3}.get(raw.sizes.flip, 0)))
            job.warnings.append("is a raw file without a preview of use, and was developed with default settings")
            return raw.postprocess(use_camera_wb=True)

    found = guarded(take, job)
    if not job.warnings:
        job.warnings.append("is a raw file, of which the embedded preview was read")
    if isinstance(found, bytes):
        return read_jpeg(found, job)
    return guarded(lambda: decode_opened(Image.fromarray(found), job), job)
