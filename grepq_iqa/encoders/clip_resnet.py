"""CLIP's ``RN50`` image tower (Radford et al., ICML 2021), the paper's high-level encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.encoders.high_level_output import HighLevelOutput
from grepq_iqa.errors import UsageError


class ClipResNetTower(nn.Module):
    """A ResNet tower of CLIP, built through open_clip, without positional embedding and for any input size."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import open_clip
        from open_clip.modified_resnet import ModifiedResNet

        settings = open_clip.get_model_config(name)
        if settings is None or not isinstance(settings["vision_cfg"].get("layers"), list):
            raise UsageError(f"config.json: {name!r} is not one of CLIP's ResNet towers in open_clip")
        vision, self.dim = settings["vision_cfg"], settings["embed_dim"]
        width = vision["width"]
        heads = width * 32 // 64
        self.visual = ModifiedResNet(vision["layers"], self.dim, heads, vision["image_size"], width)
        self.visual.attnpool = MeanTokenAttentionPool(width * 32, heads, self.dim)
        self.feature_dim = self.dim

    def forward(self, x: Tensor) -> HighLevelOutput:
        """Normalized images ``(B, 3, H, W)``; embedding and features are one."""
        embedding = self.visual(x)
        return HighLevelOutput(embedding, embedding)


class MeanTokenAttentionPool(nn.Module):
    """CLIP's attention pool for its one used output, the mean token, without positional embedding.

    See docs/method.md, section 1. Only the mean token asks, so attention costs O(H * W) and not its square, and any
    size works. Parameter names are those of open_clip's ``AttentionPool2d``.

    Attributes:
        positional_embedding: ``(1 + h * w, dim)``, added to the tokens of maps of that one size; None, as it is in
            every model that scores, adds nothing. Only the paper's training sets it.
    """

    positional_embedding: nn.Parameter | None

    def __init__(self, dim: int, heads: int, out_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, out_dim)
        self.heads = heads
        self.register_parameter("positional_embedding", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to ``(B, out_dim)``."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        if self.positional_embedding is not None:
            tokens = tokens + self.positional_embedding
        mean = tokens[:, :1]
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(mean), self.k_proj(tokens), self.v_proj(tokens))
        )
        pooled = F.scaled_dot_product_attention(query, key, value)
        projected_mean: Tensor = self.c_proj(pooled.transpose(1, 2).flatten(2)).squeeze(1)
        return projected_mean
