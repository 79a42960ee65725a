"""Safetensors files: reading some of one, and turning an open_clip checkpoint into a model directory's file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.errors import WeightsError
from grepq_iqa.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

# The attention pool's positional embedding is not added (docs/method.md, section 1), so it is not kept either.
POSITIONAL = "attnpool.positional_embedding"
COUNTER = "num_batches_tracked"

# Names of number formats: the file's, torch's (which hashes of encoders hold), and how NumPy reads them; it has no
# bfloat16, which is the upper half of a float32.
_FORMATS = {
    "F16": ("float16", "<f2"),
    "F32": ("float32", "<f4"),
    "F64": ("float64", "<f8"),
    "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"),
    "I32": ("int32", "<i4"),
    "I16": ("int16", "<i2"),
    "I8": ("int8", "i1"),
    "U8": ("uint8", "u1"),
    "BOOL": ("bool", "?"),
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file holds it; reading it needs no torch.

    Attributes:
        dtype: as torch names it, without "torch.".
        shape: its lengths.
        data: its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def array(self) -> NDArray[np.float64]:
        """Its values as float64, which holds all of them exactly."""
        reading = next(reading for name, reading in _FORMATS.values() if name == self.dtype)
        values = np.frombuffer(self.data, dtype=reading)
        if self.dtype == "bfloat16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(self.shape).astype(np.float64)


def read_stored(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file, without torch.

    Raises:
        WeightsError: the file is not a readable safetensors file, or holds numbers of an unknown kind.
    """
    from safetensors import SafetensorError, deserialize

    try:
        return {
            name: StoredTensor(_FORMATS[value["dtype"]][0], tuple(value["shape"]), value["data"])
            for name, value in deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        }
    except (OSError, SafetensorError, KeyError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", path.name, path.name) from error


def read_safetensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of a file whose name begins with ``prefix``; the others are not read from disk.

    Raises:
        WeightsError: the file is not a readable safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys() if name.startswith(prefix)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", path.name, path.name) from error


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps ``given`` from being ``wanted``: every missing, every unexpected and every misshapen name.

    BatchNorm's step counters, which evaluation does not read, may be absent.
    """
    missing = [f"missing {name}" for name in wanted if name not in given and not name.endswith(COUNTER)]
    return missing + [f"unexpected {name}" for name in given if name not in wanted] + misshapen(given, wanted)


def misshapen(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], shown: Mapping[str, str] | None = None
) -> list[str]:
    """The names in both whose shapes differ; ``shown`` tells what a message calls a name."""
    return [
        f"{(shown or {}).get(name, name)} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]


def assemble_high_level(checkpoint: Path, prompts: Path, target: Path) -> Path:
    """Write high_level.safetensors of a model directory: image tower of an open_clip checkpoint, and prompt vectors.

    Args:
        checkpoint: open_clip's, with ``visual.*``; stored in the dtype that it has.
        prompts: ``prompts.good`` and ``prompts.bad``, made by :mod:`grepq_iqa.weights.clip_prompts`.
        target: the file to write, replaced as a whole.

    Raises:
        WeightsError: an input is unreadable, or the target cannot be written.
    """
    from safetensors.torch import save

    visual = read_safetensors(checkpoint, prefix="visual.")
    tensors = {f"encoder.{name}": tensor for name, tensor in visual.items() if not name.endswith(POSITIONAL)}
    try:
        write_atomically(target, save(tensors | read_safetensors(prompts)))
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written: {error.strerror or error}",
            target.name,
            os.fspath(target),
            "free some space, make it writable, or set HF_HOME or cache_dir=",
        ) from error
    return target
