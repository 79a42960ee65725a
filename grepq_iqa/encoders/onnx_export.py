"""Both encoders -> one ONNX graph, in float32 or static int8, for `grepq_iqa.encoders.onnx_engine`.

The graph takes pictures of any number and size. Three things would not survive tracing by themselves:

- "same" padding, decided by a Python ``if`` on the size that is traced: ONNX's own ``auto_pad`` decides at run time;
- ``linspace`` of a size, which becomes a constant: `grepq_iqa.encoders.pooling` counts with ``arange``;
- ``max(size, 1)`` of Python, likewise.

Int8 is static: weights are signed, one scale an output channel; activations unsigned, with the range that they had on
calibration photographs; quantized are the convolutions of both towers and the sums and limits between them. Pooled
statistics and what follows them are float32.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grepq_iqa.encoders.efficientnet_lite import SameConv2d
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.inference import fold_batch_norm
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.encoders.onnx_engine import AGREEMENT, ENCODER_HASH, INPUT, OUTPUTS
from grepq_iqa.errors import UsageError

Array = NDArray[np.float32]

INSTALL = 'pip install "grepq-iqa[export]"'
OPSET = 17
TRACED_SIZE = (2, 3, 192, 256)
"""Any will do: nothing of it stays in the graph, which the tests check on odd sizes."""
_QUANTIZED = ("Conv", "MaxPool", "Relu", "Clip", "Add")


class _Towers(nn.Module):
    def __init__(self, low: LowLevelEncoder, high: HighLevelEncoder, patch: int) -> None:
        super().__init__()
        self.low, self.high, self.patch = low, high, patch

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        whole, windows = self.low.whole_and_windows(images, self.patch)
        return whole, windows, self.high(images).features


def require_onnx() -> None:
    """Refuse before any work where the libraries that write graphs are missing.

    Raises:
        UsageError: they are.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(f"export to ONNX needs onnx and onnxruntime: {INSTALL}") from error


def export_float(
    low_level: LowLevelEncoder, high_level: HighLevelEncoder, target: Path, *, patch: int, encoder_hash: str
) -> None:
    """Write the float32 graph; both encoders are changed by it, fold and all.

    Args:
        low_level, high_level: on the CPU, in evaluation mode, not prepared for inference.
        target: the file to write.
        patch: side in pixels.
        encoder_hash: of their weights; the graph keeps it.
    """
    import onnx

    towers = _Towers(low_level, high_level, patch).eval()
    fold_batch_norm(towers)
    strided = _without_same_padding(towers)
    by_tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    axes = {0: "batch", 2: "height", 3: "width"}
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter by tracing is the one that torch 2.1 has, too; the newer one takes twenty times as long, asks for
        # one more package, and gives the same numbers. Its warnings are about sizes, which the tests check.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            towers,
            (torch.rand(TRACED_SIZE),),
            str(target),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: axes, **{name: {0: "batch"} for name in OUTPUTS}, "windows": {0: "batch", 1: "n"}},
            opset_version=OPSET,
            **by_tracing,
        )
    model = onnx.load(target)
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in strided:
            kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("auto_pad", "SAME_UPPER")])
    _save(model, target, {ENCODER_HASH: encoder_hash})


def _without_same_padding(module: nn.Module) -> set[str]:
    """Put plain convolutions in the place of those that pad by size; the weights' names of those with a stride.

    Without a stride "same" is symmetric whatever the size; with one it depends on the size being odd or even.
    """
    strided = set()
    for path, parent in list(module.named_modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SameConv2d):
                (kernel, _), (stride, _) = child.kernel_size, child.stride
                plain = nn.Conv2d(
                    child.in_channels, child.out_channels, kernel, stride, kernel // 2, groups=child.groups
                )
                plain.weight, plain.bias = child.weight, child.bias
                setattr(parent, name, plain)
                if stride > 1:
                    strided.add(f"{path}.{name}.weight")
    return strided


def quantize(source: Path, target: Path, images: Iterable[Array]) -> None:
    """Write the int8 graph of the float32 graph ``source``.

    Args:
        source: as `export_float` writes it.
        target: the file to write.
        images: ``(3, H, W)`` in [0, 1] each, at least as large as a patch; the ranges of activations come from them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    notes = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_quantize=_quantizable(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    _save(onnx.load(target), target, notes)


class _Reader:
    """Pictures as onnxruntime's calibration reads them."""

    def __init__(self, images: Iterable[Array]) -> None:
        self._images: Iterator[Array] = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def _quantizable(model: Any) -> list[str]:
    """Convolutions, and what lies between them; not the arithmetic of statistics."""
    chosen: set[str] = set()
    made_by: dict[str, str] = {}

    def follows(tensor: str) -> bool:
        return made_by.get(tensor) in chosen

    for node in model.graph.node:
        limits = node.op_type in ("Relu", "Clip", "MaxPool") and follows(node.input[0])
        sums = node.op_type == "Add" and all(follows(tensor) for tensor in node.input)
        if node.op_type == "Conv" or limits or sums:
            chosen.add(node.name)
        made_by.update(dict.fromkeys(node.output, node.name))
    return sorted(chosen)


def disagreement(graph: Sequence[Array], reference: Sequence[Array], scale: Array) -> float:
    """Root mean square of the difference of features, in units of ``scale (d,)``; rows of two engines, in one order."""
    return float(np.sqrt(np.mean(((np.stack(list(graph)) - np.stack(list(reference))) / scale) ** 2)))


def note_agreement(graph: Path, value: float) -> None:
    """Let the graph keep what `disagreement` found."""
    import onnx

    model = onnx.load(graph)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    _save(model, graph, notes | {AGREEMENT: f"{value:.6f}"})


def _save(model: Any, target: Path, notes: dict[str, str]) -> None:
    import onnx

    onnx.helper.set_model_props(model, notes)
    # The optimizer names every domain that its own version knows, which older versions of onnxruntime refuse.
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, str(target))
