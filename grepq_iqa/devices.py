"""Which device and number format to compute with."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController

from grepq_iqa.errors import UsageError

# A process that forks after torch has computed leaves its child without torch's helper threads, and the first
# convolution there waits for them for ever. With one thread it asks for none; a pool of processes wants no more anyway.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """A device by name, or torch's own; "auto" is CUDA, then MPS, then the CPU.

    Raises:
        UsageError: an unknown device, or one that this machine or build of torch lacks.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = str(name)
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind = name.split(":")[0]
    if kind not in available:
        raise UsageError(f"unknown device {name!r}: use auto, cpu, cuda or mps")
    if not available[kind]:
        raise UsageError(f"device {name!r} is not available to this build of torch: use auto or cpu")
    return torch.device(name)


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """A number format by name, or torch's own.

    "auto" is bfloat16 where the hardware multiplies it natively, else float32, which is then the faster.

    Raises:
        UsageError: an unknown number format.
    """
    name = str(name).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    if name not in _DTYPES:
        raise UsageError(f"unknown dtype {name!r}: use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for the encoders; nothing at all for float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep NumPy's linear algebra to the calling thread.

    Its products here take a millisecond, but its threads then spin for some fifty more, waiting for work, on the very
    cores where torch's threads compute: on two cores that doubled the time of a picture.
    """
    result: AbstractContextManager[object] = _blas().limit(limits=1, user_api="blas")
    return result


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        result: bool = torch.cuda.is_bf16_supported()
        return result
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return False
