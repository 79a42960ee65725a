"""The authors' release -> a model directory.

Three files (docs/method.md, section 6): ``low_level_model_weights.tar``, ``high_level_model_weights.pth`` and
``pristine_patches_096_0.75_0.80.hdf5``, of Srinath et al., "Learning Generalizable Perceptual Representations for
Data-Efficient No-Reference Image Quality Assessment", WACV 2024. Pickles are read by torch's ``weights_only``
unpickler, which builds tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grepq_iqa._version import __version__
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.files import sha256_of, write_atomically
from grepq_iqa.weights import resolve
from grepq_iqa.weights.clip_prompts import BAD_PROMPT, GOOD_PROMPT, prompt_vectors
from grepq_iqa.weights.config import FORMAT, write_config
from grepq_iqa.weights.tensors import POSITIONAL, misfits, misshapen, read_safetensors
from grepq_iqa.zero_shot import Moments

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PATCH = 96

# torchvision's children of a ResNet-18 as the authors' nn.Sequential numbers them; 2, 3 and 8 hold no tensors.
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_TRUNK = "encoder.resnet18."
_COPY = "encoder.base_model."


def import_official(
    low_level: str | os.PathLike[str],
    high_level: str | os.PathLike[str],
    pristine: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    clip: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Turn the authors' three files into a model directory that ``GRepQ.from_pretrained`` loads.

    Args:
        low_level: the ``.tar``: a torch pickle with ``["model"]["state_dict"]``.
        high_level: the ``.pth``: state dict of CLIP RN50's ``visual`` tower.
        pristine: the ``.hdf5``: dataset ``data``, (N, 3, 96, 96) float32 in [0, 1].
        output: folder to write; made when absent.
        clip: file with the text tower of CLIP RN50 (an open_clip state dict, safetensors or weights_only pickle);
            by default the one of the model "clip-rn50", from the cache or the Hub.
        overwrite: replace a model that ``output`` already holds.
        progress: called with (patches done, patches in all).

    Returns:
        The folder written: config.json, low_level.safetensors, high_level.safetensors.

    Raises:
        WeightsError: a file is unreadable, holds anything but tensors, or has other tensors than expected; every such
            key is named.
        UsageError: ``output`` already holds a model.
    """
    from safetensors.torch import save

    folder = Path(output)
    if (folder / "config.json").exists() and not overwrite:
        raise UsageError(f"{folder} already holds a model; choose another folder or pass --overwrite")
    low = low_level_tensors(load_tensors(low_level, ("model", "state_dict")), str(low_level))
    high = high_level_tensors(load_tensors(high_level), str(high_level))
    prompts = official_prompts(clip)

    encoder = LowLevelEncoder()
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in low.items()})
    mean, covariance = pristine_statistics(encoder.eval(), pristine, progress=progress)

    config = {
        "format": FORMAT,
        "family": "grepq",
        "name": "rn50",
        "low_level": {"architecture": "resnet18", "patch": PATCH, "stride": PATCH // 2, "evaluation": "exact"},
        "high_level": {"architecture": "open_clip", "model": "RN50", "mean": CLIP_MEAN, "std": CLIP_STD},
        "max_side": None,
        "provenance": {
            "recipe": "imported from the authors' release",
            "license": "mit",
            "base_model": "timm/resnet50_clip.openai",
            "data": [],
            "code_version": __version__,
            "imported": {
                "low_level": {"file": Path(low_level).name, "sha256": sha256_of(low_level)},
                "high_level": {"file": Path(high_level).name, "sha256": sha256_of(high_level)},
                "pristine": {"file": Path(pristine).name, "sha256": sha256_of(pristine)},
            },
            "prompts": [GOOD_PROMPT, BAD_PROMPT],
            "scores": [],
        },
    }
    write_atomically(folder / "low_level.safetensors", save({**low, "pristine.mean": mean, "pristine.cov": covariance}))
    write_atomically(folder / "high_level.safetensors", save({**high, **prompts}))
    write_config(folder / "config.json", config)  # last, so that a folder with a config.json is complete
    return folder


def load_tensors(path: str | os.PathLike[str], keys: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The state dict in a torch pickle, or in a dict of dicts under ``keys``; nothing but tensors is accepted.

    Raises:
        WeightsError: the file cannot be read, would run code, or its state dict holds something else than tensors.
    """
    name = Path(path).name
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}", name, str(path)) from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds something else than tensors and plain containers, or is damaged",
            name,
            str(path),
            "take the file from the authors' release, unchanged",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        # A broken zip, an empty file or a TorchScript archive: torch has a different exception for each.
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise WeightsError(
            f"{path} is not a file of tensors that torch can read: {reason}",
            name,
            str(path),
            "download it again",
        ) from error
    for depth, key in enumerate(keys):
        if not isinstance(content, Mapping) or key not in content:
            inside = "".join(f"[{part!r}]" for part in keys[: depth + 1])
            raise WeightsError(f"{path} has no {inside}", name, str(path), "is this the right file of the three?")
        content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path} does not hold a state dict", name, str(path), "is this the right file of the three?"
        )
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path} is refused: not a tensor: {', '.join(others)}", name, str(path))
    return {str(key): tensor.detach() for key, tensor in content.items()}


def low_level_tensors(state: Mapping[str, Tensor], path: str = "low level") -> dict[str, Tensor]:
    """The authors' names -> ``encoder.trunk.*`` and ``encoder.head.*``.

    ``encoder.resnet18.0`` is torchvision's conv1, 1 bn1, 4 to 7 layer1 to layer4. ``encoder.base_model.*`` is the same
    network under torchvision's own names: it must be equal, and its unused 1000-class ``fc`` is left out.

    Raises:
        WeightsError: every missing, unexpected or differing key, named.
    """
    wanted = {f"encoder.{name}": tensor for name, tensor in LowLevelEncoder().state_dict().items()}
    mapped: dict[str, Tensor] = {}
    original: dict[str, str] = {}
    problems: list[str] = []
    for key, tensor in state.items():
        name = _low_level_name(key)
        if name in wanted:
            mapped[name], original[name] = tensor, key
        elif not key.startswith(_COPY):
            problems.append(f"unexpected {key}")
    missing = [f"missing {_authors_name(name)}" for name in wanted if name not in mapped]
    problems = missing + problems + misshapen(mapped, wanted, original)
    for key, tensor in state.items():
        if not key.startswith(_COPY) or key.startswith(f"{_COPY}fc."):
            continue
        twin = f"encoder.trunk.{key.removeprefix(_COPY)}"
        numbered = f"encoder.trunk.{_named(key.removeprefix(_COPY))}"
        match = mapped.get(twin, mapped.get(numbered))
        if twin not in wanted and numbered not in wanted:
            problems.append(f"unexpected {key}")
        elif match is not None and not torch.equal(match, tensor):
            problems.append(f"{key} differs from its copy under {_TRUNK}")
    _refuse(problems, path, "the authors' low-level encoder")
    return {name: _stored(mapped[name]) for name in wanted}


def high_level_tensors(state: Mapping[str, Tensor], path: str = "high level") -> dict[str, Tensor]:
    """CLIP RN50's ``visual`` tower -> ``encoder.visual.*``, float32, without the positional embedding (not added).

    Raises:
        WeightsError: every missing, unexpected or misshapen key, named.
    """
    wanted = {name: tensor for name, tensor in _rn50_state().items() if name != POSITIONAL}
    given = {name: tensor for name, tensor in state.items() if name != POSITIONAL}
    _refuse(misfits(given, wanted), path, "CLIP RN50's image tower")
    return {f"encoder.visual.{name}": _stored(given[name]) for name in wanted}


def official_prompts(clip: str | os.PathLike[str] | None = None) -> dict[str, Tensor]:
    """``prompts.good`` and ``prompts.bad``, (1024,) each, by CLIP RN50's text tower.

    Args:
        clip: file with the tower; None takes the vectors of the model "clip-rn50" (cache, then the Hub).

    Raises:
        WeightsError: the tower is unreadable or cannot be fetched.
    """
    if clip is not None:
        file = Path(clip)
        return prompt_vectors(read_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file))
    try:
        return read_safetensors(resolve("clip-rn50").files["high_level.safetensors"], prefix="prompts.")
    except WeightsError as error:
        raise WeightsError(
            f"the text tower of CLIP RN50 is needed for the prompt vectors: {error}",
            error.name,
            error.file,
            "or pass --clip FILE, an open_clip checkpoint of RN50",
        ) from error


def pristine_statistics(
    encoder: LowLevelEncoder,
    pristine: str | os.PathLike[str],
    *,
    chunk: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance of the encoder's features over the pristine patches, accumulated in float64.

    Args:
        encoder: in evaluation mode.
        pristine: HDF5 file with dataset ``data``, (N, 3, 96, 96) float in [0, 1].
        chunk: patches read and encoded at a time.
        progress: called with (patches done, patches in all).

    Returns:
        Mean (128,) and covariance (128, 128), float32.

    Raises:
        WeightsError: the file is unreadable, of another shape, or holds values outside [0, 1].
    """
    moments = Moments(encoder.dim)
    for patches, total in _pristine_chunks(pristine, chunk):
        with torch.inference_mode():
            moments.update(encoder(torch.from_numpy(patches)).numpy())
        if progress is not None:
            progress(moments.count, total)
    return torch.from_numpy(moments.mean).float(), torch.from_numpy(moments.covariance).float()


def _pristine_chunks(path: str | os.PathLike[str], chunk: int) -> Iterator[tuple[np.ndarray, int]]:
    name = Path(path).name
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f"reading {name} needs h5py", name, str(path), 'pip install "grepq-iqa[official]"'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            if not isinstance(data, h5py.Dataset):
                raise WeightsError(f"{path} has no dataset 'data'", name, str(path))
            if data.ndim != 4 or data.shape[1:] != (3, PATCH, PATCH) or data.shape[0] < 2 or data.dtype.kind != "f":
                raise WeightsError(
                    f"'data' of {path} is {data.dtype} {data.shape}, not at least two of float (3, {PATCH}, {PATCH})",
                    name,
                    str(path),
                )
            for start in range(0, data.shape[0], chunk):
                patches = np.asarray(data[start : start + chunk], dtype=np.float32)
                if not (patches.min() >= 0 and patches.max() <= 1):  # also false for NaN
                    raise WeightsError(f"'data' of {path} has values outside [0, 1]", name, str(path))
                yield patches, data.shape[0]
    except OSError as error:
        raise WeightsError(f"{path} is not a readable HDF5 file: {error}", name, str(path)) from error


def _low_level_name(key: str) -> str:
    if key.startswith(_TRUNK):
        return f"encoder.trunk.{_named(key.removeprefix(_TRUNK))}"
    return f"encoder.{key}" if key.startswith("head.") else ""


def _named(key: str) -> str:
    """``4.0.conv1.weight`` -> ``layer1.0.conv1.weight``; a name that has no number in front is returned as it is."""
    first, _, rest = key.partition(".")
    return f"{_CHILDREN[first]}.{rest}" if first in _CHILDREN else key


def _authors_name(name: str) -> str:
    rest = name.removeprefix("encoder.")
    if not rest.startswith("trunk."):
        return rest
    child, _, tail = rest.removeprefix("trunk.").partition(".")
    number = next(number for number, known in _CHILDREN.items() if known == child)
    return f"{_TRUNK}{number}.{tail}"


def _rn50_state() -> dict[str, Tensor]:
    from open_clip import get_model_config
    from open_clip.modified_resnet import ModifiedResNet

    config = get_model_config("RN50-quickgelu")
    vision = config["vision_cfg"]
    with torch.device("meta"):  # names and shapes only
        tower = ModifiedResNet(
            vision["layers"], config["embed_dim"], vision["width"] * 32 // 64, vision["image_size"], vision["width"]
        )
    result: dict[str, Tensor] = tower.state_dict()
    return result


def _refuse(problems: list[str], path: str, what: str) -> None:
    if problems:
        raise WeightsError(f"{path} is not {what}: {'; '.join(problems)}", Path(path).name, path)


def _stored(tensor: Tensor) -> Tensor:
    # A copy: tensors of one pickle may share storage, which safetensors refuses.
    return tensor.float().clone() if tensor.is_floating_point() else tensor.clone()
