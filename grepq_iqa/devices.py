"""Which device and number format to compute with."""

from __future__ import annotations

import os
import platform
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController

from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
"""What torch's encoders compute in."""

_threads: list[int] = []


def set_threads(threads: int) -> None:
    """Keep torch, and every engine made from now on, to so many processor threads; 0 leaves their own choice.

    It imports nothing: torch learns of it when it is imported, at once if it has been.
    """
    _threads[:] = [threads] if threads > 0 else []
    if threads > 0 and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def chosen_threads() -> int | None:
    """The argument of `set_threads`; None where nobody chose."""
    return _threads[0] if _threads else None


def usable_cores() -> int:
    """Processor threads that this process may use: those it is bound to, and no more than its container's share."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # Linux's control groups, as container engines set them: "200000 100000" is two cores, "max 100000" all
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass
    return count


def has_vnni() -> bool | None:
    """Whether the processor multiplies int8 natively (AVX-VNNI, AVX512-VNNI or AMX); None where this cannot be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return None if flags is None else bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags.split()))


def may_have_accelerator() -> bool:
    """Whether this machine looks as if torch might find a GPU; answered without importing it, rather yes than no."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if os.name == "nt":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _one_thread_in_a_child() -> None:
    # A process that forks after torch has computed leaves its child without torch's helper threads, and the first
    # convolution there waits for them for ever. With one thread it asks for none; a pool of processes wants no more.
    _threads[:] = [1]
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_in_a_child)


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """A device by name, or torch's own; "auto" is CUDA, then MPS, then the CPU.

    Raises:
        UsageError: an unknown device, or one that this machine or build of torch lacks.
    """
    import torch

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
    import torch

    name = str(name).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    result: torch.dtype = getattr(torch, name)
    return result


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for the encoders; nothing at all for float32."""
    import torch

    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep NumPy's linear algebra to the calling thread.

    Its products here take a millisecond, but its threads then spin for some fifty more, waiting for work, on the very
    cores where torch's threads compute: on two cores that doubled the time of a picture.
    """
    return _ONE_THREAD


class _OneThread:
    """The limit is the process's: the first thread that comes in sets it, and the last that leaves takes it back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._limit = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit.enter_context(_blas().limit(limits=1, user_api="blas"))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.close()


_ONE_THREAD = _OneThread()


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _has_native_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        result: bool = torch.cuda.is_bf16_supported()
        return result
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return False
