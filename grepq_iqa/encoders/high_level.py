"""The high-level encoder: an image tower whose embedding can be compared with sentences.

Paper: Srinath et al., GRepQ, WACV 2024, section 3.2. Two architectures behind one class, chosen by config.json:

- ``open_clip``: CLIP's ``RN50`` tower (Radford et al., ICML 2021), the paper's;
- ``timm``: an EfficientNet of timm's; mean and standard deviation of several of its feature maps, standardised, go
  through one linear projection into the space of a sentence encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grepq_iqa.encoders.distortion_head import DamageReader
from grepq_iqa.encoders.efficientnet_lite import build_lite0
from grepq_iqa.encoders.pooling import centre_mean_and_std, mean_and_std, out_channels
from grepq_iqa.errors import UsageError


class HighLevelOutput(NamedTuple):
    """Attributes:
    embedding: ``(B, dim)``, what prompts are compared with; not normalised.
    features: ``(B, feature_dim)``, what regression uses.
    """

    embedding: Tensor
    features: Tensor


class HighLevelEncoder(nn.Module):
    """Image ``(B, 3, H, W)`` in [0, 1], of any size, to :class:`HighLevelOutput`.

    Args:
        config: the ``high_level`` object of config.json: ``architecture``, ``model``, ``mean``, ``std``, and for timm
            ``layers`` (stages to pool), ``centre`` (whether to pool them with a weight on the middle, too; default
            false), ``head`` (whether to pool the last map before the classifier, too; default false), ``damage``
            (``start``, the first stage that was copied to see damage, and ``reads``, the names of what it reads;
            default none) and ``dim``.

    Raises:
        UsageError: an unknown architecture or model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)
        architecture = config.get("architecture")
        if architecture == "open_clip":
            self.tower: nn.Module = ClipResNetTower(config["model"])
        elif architecture == "timm":
            self.tower = PooledTimmTower(
                config["model"],
                tuple(config["layers"]),
                config["dim"],
                centre=config.get("centre", False),
                head=config.get("head", False),
                damage=config.get("damage"),
            )
        else:
            raise UsageError(f"config.json: unknown high-level architecture {architecture!r} (open_clip or timm)")
        self.dim: int = self.tower.dim
        self.feature_dim: int = self.tower.feature_dim

    def normalise(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] to what the tower was trained on."""
        return (x - self.mean) / self.std

    def forward(self, x: Tensor) -> HighLevelOutput:
        return self.tower(self.normalise(x))


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
        embedding = self.visual(x)
        return HighLevelOutput(embedding, embedding)


class MeanTokenAttentionPool(nn.Module):
    """CLIP's attention pool for its one used output, the mean token, without positional embedding (METHOD section 1).

    Only the mean token asks, so attention costs O(H * W) and not its square, and any size works. Parameter names are
    those of open_clip's ``AttentionPool2d``.
    """

    def __init__(self, dim: int, heads: int, out_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, out_dim)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to ``(B, out_dim)``."""
        tokens = x.flatten(2).transpose(1, 2)
        mean = tokens.mean(dim=1, keepdim=True)
        tokens = torch.cat([mean, tokens], dim=1)
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(mean), self.k_proj(tokens), self.v_proj(tokens))
        )
        pooled = F.scaled_dot_product_attention(query, key, value)
        return self.c_proj(pooled.transpose(1, 2).flatten(2)).squeeze(1)


class PooledTimmTower(nn.Module):
    """Mean and standard deviation of the maps after several stages of an EfficientNet, and their projection.

    With ``head`` the mean of the last map before the classifier joins them: what the picture shows. With ``damage`` a
    :class:`~grepq_iqa.encoders.distortion_head.DamageReader`, which goes its own way from one of the maps, adds what it
    reads.

    The statistics are standardised with ``pool_mean`` and ``pool_scale``, which training measures on ordinary
    photographs, and clipped to +-``CLIP`` so that an odd picture cannot leave the range that training saw.

    Args:
        name: timm's, of a model with ``conv_stem``, ``bn1`` and ``blocks``; ``tf_efficientnet_lite0`` needs no timm.
        layers: indices of stages, ascending; what follows the last one that is needed is not even built.
        dim: length of the embedding.
        centre: pool layers a second time, with a weight on the middle of the picture.
        head: pool the map that ImageNet's classifier pools, too.
        damage: ``start`` and ``reads`` of config.json; None reads none.

    Attributes:
        block_sizes: number of features of every block in order: each layer's means and deviations (then those of its
            centre), the head's means, and what is read of damage.
        head_features, damage_features: where those two stand; empty slices without them.
    """

    CLIP = 5.0
    pool_mean: Tensor
    pool_scale: Tensor

    def __init__(
        self,
        name: str,
        layers: tuple[int, ...],
        dim: int,
        *,
        centre: bool = False,
        head: bool = False,
        damage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        stem, stages, last = build_lite0() if name == "tf_efficientnet_lite0" else _build_by_timm(name)
        self.stem = stem
        self.damage_start = damage["start"] if damage else 0
        self.damage = DamageReader(stages[self.damage_start :], len(damage["reads"])) if damage else None
        self.stages = nn.ModuleList(stages if head else stages[: max(self.damage_start, max(layers) + 1)])
        self.head = last if head else None
        self.layers, self.dim = tuple(sorted(layers)), dim
        self.poolings = (mean_and_std, centre_mean_and_std) if centre else (mean_and_std,)
        of_layers = [2 * len(self.poolings) * out_channels(self.stages[layer]) for layer in self.layers]
        of_head = [out_channels(last)] if head else []
        of_damage = [self.damage.reads] if self.damage else []
        self.block_sizes = of_layers + of_head + of_damage
        self.feature_dim = sum(self.block_sizes)
        self.head_features = slice(sum(of_layers), sum(of_layers + of_head))
        self.damage_features = slice(self.head_features.stop, self.feature_dim)
        self.register_buffer("pool_mean", torch.zeros(self.feature_dim))
        self.register_buffer("pool_scale", torch.ones(self.feature_dim))
        self.projection = nn.Linear(self.feature_dim, dim)

    def pooled(self, x: Tensor) -> Tensor:
        """``(B, feature_dim)``, the blocks of ``block_sizes`` side by side."""
        statistics: list[Tensor] = []
        amounts: list[Tensor] = []
        for passed, feature_map in enumerate(self.maps(x)):
            if passed - 1 in self.layers:
                statistics += [part for pool in self.poolings for part in pool(feature_map)]
            if self.damage is not None and passed == self.damage_start:
                amounts = [self.damage(feature_map)]
        if self.head is not None:
            statistics.append(self.head(feature_map).float().flatten(2).mean(2))
        return torch.cat(statistics + amounts, dim=1)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """What the stem and then every stage make of ``x``, one at a time: a large picture's need much memory."""
        x = self.stem(x)
        yield x
        for stage in self.stages:
            x = stage(x)
            yield x

    def set_standard(self, ordinary: Tensor) -> None:
        """Standardise from now on by the statistics ``(n, feature_dim)`` of ordinary photographs."""
        self.pool_mean.copy_(ordinary.mean(0))
        self.pool_scale.copy_(ordinary.std(0).clamp_min(1e-5))

    def standardise(self, pooled: Tensor) -> Tensor:
        """Pooled statistics in units of their spread over ordinary photographs, clipped."""
        return ((pooled - self.pool_mean) / self.pool_scale).clamp(-self.CLIP, self.CLIP)

    def project(self, pooled: Tensor) -> Tensor:
        """Embedding ``(B, dim)`` of pooled statistics."""
        with torch.autocast(pooled.device.type, enabled=False):  # thousands of terms add up, so bfloat16 would show
            return self.projection(self.standardise(pooled))

    def forward(self, x: Tensor) -> HighLevelOutput:
        pooled = self.pooled(x)
        return HighLevelOutput(self.project(pooled), pooled)


def _build_by_timm(name: str) -> tuple[nn.Sequential, list[nn.Module], nn.Sequential]:
    """Stem, stages and head of any EfficientNet of timm's, with random weights."""
    import timm

    try:
        backbone: Any = timm.create_model(name, pretrained=False, num_classes=0)
        stem, head = (backbone.conv_stem, backbone.bn1), (backbone.conv_head, backbone.bn2)
        return nn.Sequential(*stem), list(backbone.blocks), nn.Sequential(*head)
    except (RuntimeError, AttributeError) as error:
        raise UsageError(f"config.json: timm has no EfficientNet named {name!r}") from error
