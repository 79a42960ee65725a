"""The mean quality of a generator's or a restorer's images, as a torchmetrics Metric. No network is needed.

Run: pip install "grepq-iqa[torchmetrics]" && python examples/torchmetrics_metric.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from grepq_iqa import load_image
from grepq_iqa.integrations import GRepQMetric

metric = GRepQMetric()
for photo in sorted((Path(__file__).parent / "photos").glob("*.jpg"))[:2]:
    image = load_image(photo, max_side=256)
    noisy = (image + 0.1 * torch.randn(image.shape, generator=torch.manual_seed(0))).clamp(0, 1)
    metric.update(torch.stack([image, noisy]))  # (B, 3, H, W) in [0, 1]; or paths, or PIL images
print(f"mean score of {int(metric.count)} images: {float(metric.compute()):.3f}")

metric.reset()
metric.update(image)
clean = float(metric.compute())
metric.reset()
metric.update(noisy)
print(f"the last one clean {clean:.3f}, with noise {float(metric.compute()):.3f}")
