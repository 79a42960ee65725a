"""Encoders against open_clip's own attention, torchvision's ResNet-18, and themselves at other batch sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import needs

from grepq_iqa.encoders.clip_resnet import MeanTokenAttentionPool
from grepq_iqa.encoders.efficientnet_lite import build_lite0
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.inference import fold_batch_norm, prepare_for_inference
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError

EFFICIENTNET = {
    "architecture": "efficientnet",
    "model": "tf_efficientnet_lite0",
    "layers": [2, 4],
    "dim": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 7), (3, 11), (16, 5)])
def test_mean_token_equals_the_full_attention(height, width):
    from open_clip.modified_resnet import AttentionPool2d

    torch.manual_seed(0)
    full = AttentionPool2d(max(height, width), 64, 4, 32).eval()
    # positional embedding is not added: zeros of the length that this map needs
    full.positional_embedding = torch.nn.Parameter(torch.zeros(height * width + 1, 64))
    ours = MeanTokenAttentionPool(64, 4, 32).eval()
    ours.load_state_dict({k: v for k, v in full.state_dict().items() if k != "positional_embedding"})
    x = torch.randn(2, 64, height, width)
    torch.testing.assert_close(ours(x), full(x), atol=1e-5, rtol=1e-5)


def test_attention_memory_grows_linearly_with_pixels():
    pool = MeanTokenAttentionPool(32, 2, 8)
    largest = []
    for side in (16, 32, 64):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            pool(torch.randn(1, 32, side, side, requires_grad=True))
        largest.append(sum(sizes))
    # four times the pixels: four times the saved numbers, not sixteen
    assert largest[1] / largest[0] < 4.5 and largest[2] / largest[1] < 4.5


def test_low_level_encoder_equals_torchvision():
    torchvision = needs("torchvision")
    torch.manual_seed(0)
    ours = LowLevelEncoder().eval()
    theirs = torchvision.models.resnet18()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.trunk.state_dict())
    theirs.eval()
    x = torch.rand(2, 3, 96, 130)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), ours.head(theirs(x)), atol=1e-5, rtol=1e-5)
    assert ours(x).shape == (2, 128)


@pytest.mark.parametrize("size", [(96, 96), (33, 170), (300, 97)])
def test_efficientnet_takes_any_size(size):
    torch.manual_seed(0)
    encoder = HighLevelEncoder(EFFICIENTNET).eval()
    with torch.no_grad():
        out = encoder(torch.rand(2, 3, *size))
    assert out.embedding.shape == (2, 16) and out.features.shape == (2, encoder.feature_dim) == (2, 2 * (40 + 112))
    assert torch.isfinite(out.features).all()


def test_pooled_statistics_are_mean_and_standard_deviation():
    encoder = HighLevelEncoder(EFFICIENTNET | {"layers": [0]}).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        feature_map = encoder.tower.stages[0](encoder.tower.stem((x - 0.5) / 0.5))
        pooled = encoder(x).features[0]
    channels = feature_map.shape[1]
    for c in range(channels):
        assert pooled[c].item() == pytest.approx(feature_map[0, c].mean().item(), abs=1e-5)
        assert pooled[channels + c].item() == pytest.approx(feature_map[0, c].std(correction=0).item(), abs=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (96, 33), (17, 300)])
def test_pooled_centers_follow_the_plain_statistics(size):
    encoder = HighLevelEncoder(EFFICIENTNET | {"layers": [1], "center_weighted": True}).eval()
    plain = HighLevelEncoder(EFFICIENTNET | {"layers": [1]}).eval()
    plain.tower.stages.load_state_dict(encoder.tower.stages.state_dict())
    plain.tower.stem.load_state_dict(encoder.tower.stem.state_dict())
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        pooled = encoder(x).features
        torch.testing.assert_close(pooled[:, :48], plain(x).features)
        maps = list(encoder.tower.maps((x - 0.5) / 0.5))[2].double().numpy()
    height, width = maps.shape[-2:]
    rows, columns = ([(2 * i / (n - 1) - 1 if n > 1 else 0) / 0.5 for i in range(n)] for n in (height, width))
    weight = np.array([[np.exp(-(r * r + c * c) / 2) for c in columns] for r in rows])
    for picture in range(2):
        for channel in range(24):
            values = maps[picture, channel]
            mean = np.average(values, weights=weight)
            spread = np.average((values - mean) ** 2, weights=weight) ** 0.5
            assert pooled[picture, 48 + channel].item() == pytest.approx(mean, abs=1e-5)
            assert pooled[picture, 72 + channel].item() == pytest.approx(spread, abs=1e-5)


@pytest.mark.parametrize(("start", "layers", "head"), [(2, [2, 4], True), (3, [0], False)])
@torch.no_grad()
def test_distortions_are_told_from_copied_stages(start, layers, head):
    torch.manual_seed(0)
    config = EFFICIENTNET | {
        "layers": layers,
        "head": head,
        "distortion_head": {"start": start, "outputs": ["distance", "jpeg", "haze"]},
    }
    encoder = _with_lived_in_norms(HighLevelEncoder(config))
    tower, copied = encoder.tower, encoder.tower.distortion_head
    copied.mean.uniform_(-0.1, 0.1)
    copied.scale.uniform_(0.5, 2)
    x = torch.rand(2, 3, 96, 64)
    plain = HighLevelEncoder(config | {"distortion_head": None}).eval()
    shared = {k: v for k, v in tower.state_dict().items() if k.startswith(("stem.", "stages.", "head."))}
    plain.tower.load_state_dict(shared, strict=False)
    features = encoder(x).features
    assert features.shape == (2, encoder.feature_dim) == (2, plain.feature_dim + 3)
    torch.testing.assert_close(features[:, : plain.feature_dim], plain(x).features)

    y = tower.stem((x - 0.5) / 0.5)
    for stage in tower.stages[:start]:
        y = stage(y)
    pooled = []
    for stage in copied.stages:
        y = stage(y)
        pooled += [y.mean((2, 3)), y.std((2, 3), correction=0)]
    z = ((torch.cat(pooled, 1) - copied.mean) / copied.scale).clamp(-5, 5)
    want = z @ copied.linear.weight.T + copied.linear.bias
    torch.testing.assert_close(features[:, tower.distortion_features], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(96, 96), (97, 131), (224, 150)])
def test_lite0_equals_timm(size):
    timm = needs("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    stem, stages, head = build_lite0()
    stem.load_state_dict(torch.nn.Sequential(theirs.conv_stem, theirs.bn1).state_dict())
    ours = torch.nn.Sequential(*stages)
    ours.load_state_dict(theirs.blocks.state_dict())
    head.load_state_dict(torch.nn.Sequential(theirs.conv_head, theirs.bn2).state_dict())
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        want = theirs.blocks(theirs.bn1(theirs.conv_stem(x)))
        found = ours.eval()(stem.eval()(x))
        torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(head.eval()(found), theirs.bn2(theirs.conv_head(want)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model", ["tf_efficientnet_lite1", "efficientnet_b0"])
def test_other_efficientnets_are_refused_by_name_with_a_way_out(model):
    with pytest.raises(UsageError) as caught:
        HighLevelEncoder(EFFICIENTNET | {"model": model, "layers": [1]})
    message = str(caught.value)
    assert "config.json" in message and repr(model) in message and "is not tf_efficientnet_lite0" in message
    assert "grepq-iqa 0.1" in message and "train again" in message and "\n" not in message


def test_unknown_architectures_are_named():
    with pytest.raises(UsageError, match="transformer"):
        HighLevelEncoder(EFFICIENTNET | {"architecture": "transformer"})
    with pytest.raises(UsageError, match="no-such-net"):
        HighLevelEncoder(EFFICIENTNET | {"model": "no-such-net"})


def _with_lived_in_norms(encoder: torch.nn.Module) -> torch.nn.Module:
    """Batch normalizations as training leaves them: no scale is 1, no shift is 0."""
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0),
            ):  # fmt: skip
                torch.nn.init.uniform_(tensor, low, high)
    return encoder.eval()


@pytest.mark.parametrize("name", ["low level", "efficientnet", "clip"])
@torch.no_grad()
def test_folded_encoders_compute_the_same(name):
    torch.manual_seed(0)
    clip = {"architecture": "open_clip", "model": "RN50", "mean": [0.5] * 3, "std": [0.25] * 3}
    efficientnet = EFFICIENTNET | {"head": True, "distortion_head": {"start": 2, "outputs": ["distance", "jpeg"]}}
    configs = {"efficientnet": efficientnet, "clip": clip}
    encoder = _with_lived_in_norms(LowLevelEncoder() if name == "low level" else HighLevelEncoder(configs[name]))
    x = torch.rand(2, 3, 97, 130)
    before = encoder(x)
    prepare_for_inference(encoder, torch.device("cpu"), torch.float32)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in encoder.modules())
    after = encoder(x.contiguous(memory_format=torch.channels_last))
    for a, b in zip(*((o,) if isinstance(o, torch.Tensor) else o for o in (before, after)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * a.abs().max().item())


def test_a_normalization_in_training_is_not_folded():
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_batch_norm(LowLevelEncoder().train())
