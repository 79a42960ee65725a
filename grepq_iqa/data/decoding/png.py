"""PNG: colors by its chunks, transparency at its own depth, and without the chunks over which Pillow stumbles."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from grepq_iqa.data import formats
from grepq_iqa.data.decoding.finish import finish_values
from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.management import PLAIN, Signal
from grepq_iqa.data.decoding.opening import opened
from grepq_iqa.data.decoding.orientation import orientation_of
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.decoding.png_chunks import PngState, read_png_chunks

_RGB, _GRAY_ALPHA, _RGB_ALPHA = 2, 4, 6


def read_png(data: bytes, job: Job) -> Pixels:
    """The picture of a PNG file; of an animation the still one.

    Raises:
        ImageError: it is truncated or damaged.
    """
    state = guarded(lambda: read_png_chunks(data), job)
    with opened(io.BytesIO(state.repaired or data), job, ("PNG",)) as image:
        transparent = image.info.get("transparency")
        if state.color_type == 0 and isinstance(transparent, int) and state.bit_depth < 8:
            # Pillow scales the pixels to 8 bits and leaves the transparent value as it is stored
            image.info["transparency"] = transparent * 255 // (2**state.bit_depth - 1)
        elif state.color_type == _RGB and isinstance(transparent, tuple) and state.bit_depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # Pillow keeps the high bytes
        image.info["icc_profile"] = state.icc if state.color_source == "iCCP" else None
        signal = PLAIN
        if state.color_source == "cICP":
            signal = Signal(cicp=state.cicp, bit_depth=state.bit_depth)
        elif state.color_source in ("gAMA", "cHRM"):
            signal = Signal(state.gamma, state.chromaticities)
        is_deep = state.bit_depth == 16 and state.color_type in (_RGB, _GRAY_ALPHA, _RGB_ALPHA)
        if is_deep and formats.has_codecs():  # Pillow keeps the high bytes of these
            return guarded(lambda: _decode_deep(data, state, image, signal, job), job)
        return guarded(lambda: decode_opened(image, job, signal), job)


def _decode_deep(data: bytes, state: PngState, image: Image.Image, signal: Signal, job: Job) -> Pixels:
    import imagecodecs

    job.check_size(*image.size)
    # Pillow decodes first, since it alone says that a file is truncated or has wrong checksums.
    image.load()
    orientation = orientation_of(image)
    samples = imagecodecs.png_decode(state.repaired or data)
    colors = 1 if state.color_type == _GRAY_ALPHA else 3
    if samples.dtype != np.uint16 or samples.ndim != 3 or samples.shape[-1] < colors:
        return decode_opened(image, job, signal)
    values = samples.astype(np.float32) / np.float32(65535)
    # The transparent value of a file without alpha comes as a fourth channel.
    alpha = values[..., colors] if samples.shape[-1] > colors else None
    return finish_values(values[..., :colors], alpha, job, image.info["icc_profile"], signal, orientation)
