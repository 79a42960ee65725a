"""The encoders by ONNX Runtime on the CPU: a graph written by `grepq_iqa.encoders.onnx_export`, and no torch.

Both towers and the distortion head are one graph, because they read the same picture: one session has one pool of
threads and one arena of memory, where two sessions would have two, the threads of the one waiting busily on the cores
that the other computes on. The embedding is left to `grepq_iqa.encoders.projection`: a single product, kept in float32.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.devices import chosen_threads, has_vnni, usable_cores
from grepq_iqa.encoders.engine import Encoded
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import sha256_of

Array = NDArray[np.float32]

INT8_GRAPH, FLOAT_GRAPH = "encoders.int8.onnx", "encoders.onnx"
"""Names in a model directory."""
GRAPHS = {"int8": INT8_GRAPH, "float32": FLOAT_GRAPH}
INPUT, OUTPUTS = "images", ("low", "windows", "high")
ENCODER_HASH, AGREEMENT = "grepq_iqa.encoder_hash", "grepq_iqa.agreement"
"""Keys of a graph's metadata: the weights it was made of, and how well its features agree with theirs in float32."""

BATCH_PIXELS = 1 << 18
"""Images of one size share a pass up to this many pixels, as on torch's CPU path."""

INSTALL = 'pip install "grepq-iqa[onnx]"'
_NO_SATURATION = ("session.x64quantprecision", "1")
"""Exact products of int8 on x86 without VNNI. Where there is VNNI they are exact anyway, and this costs 2.5 times."""


class GraphNotes(NamedTuple):
    """What a graph says of itself.

    Attributes:
        encoder_hash: of the weights that it was made of.
        agreement: root mean square over pictures and features of the difference from torch's float32 features, in
            units of each feature's standard deviation over in-the-wild images; NaN where that was not measured.
    """

    encoder_hash: str
    agreement: float


class OnnxEngine:
    """Both encoders as one graph; see `grepq_iqa.encoders.engine.Engine`.

    Args:
        graph: the file.
        encoder_hash: of the model's weights, which the graph must have been made of.
        dtype: "int8" or "float32", whichever the file is.

    Raises:
        UsageError: onnxruntime is not installed.
        WeightsError: the file cannot be read, or was made of other weights.
    """

    name = "onnx"
    device = "cpu"
    batch_pixels = BATCH_PIXELS

    def __init__(self, graph: Path, encoder_hash: str, dtype: str) -> None:
        self.dtype = dtype
        self._graph = graph
        self._session: Any = _session(graph)
        self.agreement: float | None
        made_of, self.agreement = _notes(self._session)
        if made_of != encoder_hash:
            raise WeightsError(
                f"{graph} was made of other weights ({made_of[:12] or 'unknown'}, not {encoder_hash[:12]})",
                str(graph),
                graph.name,
                "export it again with `grepq export --format onnx`, or use engine torch",
            )
        self.features_hash = sha256_of(graph)
        _engines.add(self)

    def encode(self, images: Array) -> Encoded:
        """As `grepq_iqa.encoders.engine.Engine`."""
        if self._session is None:
            self._session = _session(self._graph)
        low, windows, high = self._session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(images, dtype=np.float32)})
        return Encoded(high, low, tuple([one] for one in windows))

    def begin_anew(self) -> None:
        """Leave the session of the process that this one was forked from, and open another when there is need."""
        # Freed, a session waits for its threads, of which a forked child has none: it is kept for ever instead.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None


_engines: WeakSet[OnnxEngine] = WeakSet()


def _begin_anew_in_a_child() -> None:
    for engine in list(_engines):
        engine.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_a_child)


def has_onnxruntime() -> bool:
    """Whether it is installed; imports nothing."""
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


def _session(graph: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"engine onnx needs onnxruntime: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    # Given a number, ONNX Runtime binds its threads to no cores, which containers refuse, aloud.
    options.intra_op_num_threads = chosen_threads() or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if has_vnni() is False:
        options.add_session_config_entry(*_NO_SATURATION)
    try:
        return onnxruntime.InferenceSession(os.fspath(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own types, none of which it exports
        reason = " ".join(str(error).split())
        raise WeightsError(f"{graph} cannot be read by onnxruntime: {reason}", str(graph), graph.name) from error


def _notes(session: Any) -> GraphNotes:
    found = session.get_modelmeta().custom_metadata_map
    return GraphNotes(found.get(ENCODER_HASH, ""), float(found.get(AGREEMENT, "nan")))
