"""Prompt vectors: a sentence through the text tower of a CLIP model, once, kept as a few kilobytes.

Scoring needs the two vectors and the image tower; the text tower (63 million parameters) is read when the vectors are
first made and never again. The tower is the one of Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", ICML 2021, as open_clip builds it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from grepq_iqa.errors import WeightsError
from grepq_iqa.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

GOOD_PROMPT = "A good photo."
BAD_PROMPT = "A bad photo."
MODEL = "RN50-quickgelu"


def prompt_vectors(
    state: Mapping[str, Tensor], good: str = GOOD_PROMPT, bad: str = BAD_PROMPT, *, model: str = MODEL
) -> dict[str, Tensor]:
    """Unit vectors of two sentences.

    Args:
        state: an open_clip state dict; tensors of its text tower are used, ``visual.*`` is ignored.
        good: the sentence that a good photograph resembles.
        bad: the sentence that a bad one resembles.
        model: the open_clip model whose text tower it is.

    Returns:
        ``{"prompts.good": (D,), "prompts.bad": (D,)}``, float32, of length 1.

    Raises:
        WeightsError: the state dict is not that of this text tower; the message names every key.
    """
    import torch

    tower = _text_tower(model)
    text = {
        name: tensor.float()
        for name, tensor in state.items()
        if not name.startswith("visual.") and name not in ("logit_scale", "logit_bias")
    }
    _check_names(text, tower.state_dict(), model)
    tower.load_state_dict(text)
    tower.eval()
    from open_clip import get_tokenizer

    with torch.no_grad():
        vectors = torch.nn.functional.normalize(tower(get_tokenizer(model)([good, bad])), dim=-1)
    return {"prompts.good": vectors[0].contiguous(), "prompts.bad": vectors[1].contiguous()}


def cached_prompts(checkpoint: str | os.PathLike[str], sha256: str, prompts: Mapping[str, str], folder: Path) -> Path:
    """Path of a safetensors file with the prompt vectors of a checkpoint; made when it is not there yet.

    Args:
        checkpoint: an open_clip checkpoint, safetensors.
        sha256: of that checkpoint; the file's name depends on it and on the sentences.
        prompts: "good" and "bad", the two sentences, and "model", the open_clip model whose text tower it is.
        folder: where such files are kept.

    Raises:
        WeightsError: the checkpoint is not that of this model, or the folder cannot be written.
    """
    from grepq_iqa.weights.tensors import read_safetensors

    model, good, bad = prompts["model"], prompts["good"], prompts["bad"]
    words = hashlib.sha256(json.dumps([model, good, bad]).encode()).hexdigest()
    path = folder / f"prompts-{sha256[:16]}-{words[:8]}.safetensors"
    if _holds_vectors(path):
        return path
    from safetensors.torch import save

    vectors = prompt_vectors(read_safetensors(Path(checkpoint)), good, bad, model=model)
    try:
        write_atomically(path, save(vectors, {"checkpoint_sha256": sha256, "good": good, "bad": bad}))
    except OSError as error:
        raise WeightsError(
            f"the prompt vectors cannot be written to {folder}: {error.strerror or error}",
            path.name,
            path.name,
            "make it writable, or set HF_HOME or cache_dir=",
        ) from error
    return path


def _holds_vectors(path: Path) -> bool:
    # Read without torch, so that a resolve stays light once the vectors exist.
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        vectors = load_file(path)
    except (OSError, SafetensorError):
        return False
    return set(vectors) == {"prompts.good", "prompts.bad"} and all(
        vector.ndim == 1 and abs(float(np.linalg.norm(vector)) - 1) < 1e-3 for vector in vectors.values()
    )


def _text_tower(model: str) -> nn.Module:
    from open_clip import get_model_config
    from open_clip.transformer import QuickGELU, TextTransformer
    from torch import nn

    config = get_model_config(model)
    tower: nn.Module = TextTransformer(
        **config["text_cfg"],
        output_dim=config["embed_dim"],
        act_layer=QuickGELU if config.get("quick_gelu") else nn.GELU,
    )
    return tower


def _check_names(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], model: str) -> None:
    from grepq_iqa.weights.tensors import misfits

    problems = misfits(given, wanted)
    if problems:
        raise WeightsError(
            f"these are not the weights of open_clip's {model} text tower: {'; '.join(problems)}",
            model,
            hint="use open_clip_model.safetensors of timm/resnet50_clip.openai",
        )
