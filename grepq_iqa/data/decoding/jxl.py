"""JPEG XL, by imagecodecs: its colors by the header, since the decoder gives values alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

from grepq_iqa.data.decoding.finish import finish_values
from grepq_iqa.data.decoding.job import Job, Pixels, guarded
from grepq_iqa.data.decoding.jxl_header import JxlHeader, read_jxl_header
from grepq_iqa.data.decoding.management import PLAIN, Signal
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.decoding.ranges import unit_range

_LINEAR = 8
_OTHER_CURVES = {1, 16, 17, 18}  # BT.709, PQ, DCI and HLG are no powers
_PRIMARIES_BY_NUMBER = {0.708: 9, 0.640: 1, 0.680: 12}  # x of red


def read_jxl(data: bytes, job: Job) -> Pixels:
    """The picture of a JPEG XL file; of an animation the first.

    Raises:
        ImageError: it is too large, truncated or damaged.
    """

    def decode() -> Pixels:
        import imagecodecs

        header = read_jxl_header(data)
        job.check_size(header.width, header.height)
        values = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
        values = values[..., None] if values.ndim == 2 else values
        if header.profile and not header.is_xyb:
            job.warnings.append("has a color profile that is not read in JPEG XL, and was taken as sRGB")
        signal = _signal_of(header)
        if values.dtype == np.uint8 and values.shape[-1] in (1, 3):
            flat = values.squeeze(-1) if values.shape[-1] == 1 else values
            return decode_opened(Image.fromarray(np.ascontiguousarray(flat)), job, signal)
        unit, said = unit_range(values, 8 * values.dtype.itemsize, job.name)
        job.warnings += said
        has_alpha = unit.shape[-1] in (2, 4)
        return finish_values(
            unit[..., :-1] if has_alpha else unit, unit[..., -1] if has_alpha else None, job, None, signal
        )

    return guarded(decode, job)


def _signal_of(header: JxlHeader) -> Signal:
    if header.transfer in _OTHER_CURVES:
        red = round(header.chromaticities[2], 3) if header.chromaticities else 0.640
        return Signal(cicp=(_PRIMARIES_BY_NUMBER.get(red, 1), header.transfer, 0, 1))
    gamma = 1.0 if header.transfer == _LINEAR else header.gamma
    if gamma is None and header.chromaticities is None:
        return PLAIN
    return Signal(gamma, header.chromaticities)
