"""JPEG: damage that libjpeg repairs is told, and a missing end marker is given back."""

from __future__ import annotations

import io

from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.jpeg_damage import inspect_jpeg
from grepq_iqa.data.decoding.opening import opened
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.errors import ImageError


def read_jpeg(data: bytes, job: Job) -> Pixels:
    """The picture of a JPEG file, with the warnings about its bytes in ``job``.

    Raises:
        ImageError: it is truncated or damaged.
    """
    state = guarded(lambda: inspect_jpeg(data), job)
    if state.truncated:
        raise ImageError(job.name, "is truncated or damaged: " + ("; ".join(state.warnings) or "its end is missing"))
    job.warnings += state.warnings
    with opened(io.BytesIO(state.repaired or data), job, ("JPEG",)) as image:
        return guarded(lambda: decode_opened(image, job), job)
