"""BatchNorm of the low-level encoder, estimated anew over whole photographs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grepq_iqa.data.images import load_image
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training.batch_statistics import estimate_statistics


def encoder_of(seed: int) -> LowLevelEncoder:
    torch.manual_seed(seed)
    encoder = LowLevelEncoder().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # what training left, whatever it was
            module.running_var.uniform_(0.1, 3)
    return encoder


def slow_statistics(encoder: LowLevelEncoder, photographs) -> dict[str, torch.Tensor]:
    """By hooks: each layer's input in a pass where every layer normalizes by the photograph itself."""
    seen: dict[str, list[torch.Tensor]] = {}

    def normalize(name):
        def hook(layer, inputs, _):
            (x,) = (one.double() for one in inputs)
            seen.setdefault(name, []).append(x[0].flatten(1))
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
            scaled = (x - mean) / (var + layer.eps).sqrt()
            return (scaled * layer.weight[:, None, None] + layer.bias[:, None, None]).float()

        return hook

    hooks = [
        layer.register_forward_hook(normalize(name))
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        for path in photographs:
            encoder.trunk(load_image(path, max_side=160)[None])
    for hook in hooks:
        hook.remove()
    means = {f"{name}.running_mean": torch.stack([x.mean(1) for x in all_]).mean(0) for name, all_ in seen.items()}
    return means | {f"{name}.running_var": torch.stack([x.var(1) for x in all_]).mean(0) for name, all_ in seen.items()}


def test_statistics_are_means_over_photographs(photos):
    encoder, other = encoder_of(0), encoder_of(0)
    before = {name: tensor.clone() for name, tensor in encoder.named_parameters()}
    estimate_statistics(encoder, photos[:3], max_side=160)
    expected = slow_statistics(other, photos[:3])
    found = {name: buffer for name, buffer in encoder.named_buffers() if "running" in name}
    assert found.keys() == expected.keys() and len(found) == 40
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=2e-3, atol=2e-3)
    assert not encoder.training and not encoder.trunk.bn1.training
    assert all(layer.momentum == 0.1 for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.named_parameters())


def test_none_to_estimate_on_is_refused_and_changes_nothing():
    encoder = encoder_of(2)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UsageError, match="no photographs"):
        estimate_statistics(encoder, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_what_training_left_does_not_matter(photos):
    one, two = encoder_of(1), encoder_of(1)
    two.trunk.bn1.running_var.mul_(100)
    for encoder in (one, two):
        estimate_statistics(encoder, photos[:2], max_side=160)
    torch.testing.assert_close(one.state_dict(), two.state_dict())
