"""PNG: colors by its chunks, transparency at its own depth, and without the chunks over which Pillow stumbles."""

from __future__ import annotations

import io

from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.management import PLAIN, Signal
from grepq_iqa.data.decoding.opening import opened
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.decoding.png_chunks import read_png_chunks


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
        elif state.color_type == 2 and isinstance(transparent, tuple) and state.bit_depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in transparent)  # Pillow keeps the high bytes
        image.info["icc_profile"] = state.icc if state.color_source == "iCCP" else None
        signal = PLAIN
        if state.color_source == "cICP":
            signal = Signal(cicp=state.cicp, bit_depth=state.bit_depth)
        elif state.color_source in ("gAMA", "cHRM"):
            signal = Signal(state.gamma, state.chromaticities)
        return guarded(lambda: decode_opened(image, job, signal), job)
