"""The shipped scoring of the paper's model against a slow transcription of the formulas that shares no code with it.

    python studies/parity.py dev/images --photographs 12

No weights of `rn50` were to be had, and random ones hardly tell photographs apart (Q_H spans 1e-4, less than any
tolerance). So these are random weights that are then made to tell them apart: the bias of CLIP's last layer is moved so
that embeddings of the photographs have mean zero, and prompts lie along their first principal component; pristine
moments are those of the photographs' own patches, shifted by three standard deviations along their first component. The
transcription uses open_clip's own tower (with its full attention pool, the positional embedding set to zero),
torchvision's ResNet-18, one patch at a time, and float64 from there on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from grepq_iqa import GRepQ
from grepq_iqa.data.image_paths import iter_image_paths

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATCH, STRIDE = 96, 48


class SlowLowLevel(nn.Module):
    """The paper's low-level network from torchvision's parts."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.resnet = resnet18()
        self.resnet.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, h, w)`` to ``(B, 128)``."""
        features: Tensor = self.resnet(x)
        return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=int, default=12)
    options = parser.parse_args()
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(0)
    paths = list(islice(iter_image_paths([str(options.folder)]), options.photographs))
    pictures = [
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255 for path in paths
    ]
    low, high = SlowLowLevel().eval(), ModifiedResNet([3, 4, 6, 3], 1024, 32, 224, 64).eval()
    for module in high.modules():  # open_clip starts the last scale of each block at zero, which leaves little of it
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    with torch.no_grad():
        embeddings = torch.cat([slow_embedding(high, picture) for picture in pictures])
        high.attnpool.c_proj.bias -= embeddings.mean(0)
        axis = torch.linalg.svd(embeddings - embeddings.mean(0))[2][0]
        patches = [slow_patches(low, picture) for picture in pictures]
    everything = np.concatenate(patches)
    direction = np.linalg.svd(everything - everything.mean(0), full_matrices=False)[2][0]
    shifted = everything.mean(0) + 3 * (everything @ direction).std() * direction
    moments = {
        "mean": shifted.astype(np.float32), "cov": np.cov(everything, rowvar=False).astype(np.float32)
    }  # fmt: skip
    other = torch.randn(1024, generator=torch.Generator().manual_seed(1))
    other = other - (other @ axis) * axis
    prompts = {
        name: (sign * 0.6 * axis + 0.8 * other / other.norm()) for name, sign in (("good", 1.0), ("bad", -1.0))
    }  # fmt: skip

    expected_low, expected_high = [], []
    with torch.no_grad():
        for picture, rows in zip(pictures, patches, strict=True):
            expected_low.append(slow_low_level(rows, moments["mean"], moments["cov"]))
            expected_high.append(slow_high_level(slow_embedding(high, picture)[0], prompts["good"], prompts["bad"]))
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch), low, high, moments, prompts)
        scores = GRepQ.from_pretrained(Path(scratch), device="cpu", dtype="float32").score(
            [str(path) for path in paths]
        )
    for name, expected, found in (
        ("Q_L", np.array(expected_low), np.array([score.low_level for score in scores])),
        ("Q_H", np.array(expected_high), np.array([score.high_level for score in scores])),
    ):
        print(
            f"{name}: {len(paths)} photographs, from {expected.min():.4f} to {expected.max():.4f}; the shipped scoring "
            f"differs by {np.abs(found - expected).max():.1e} at most"
        )


def slow_embedding(high: nn.Module, picture: Tensor) -> Tensor:
    """CLIP's embedding ``(1, 1024)`` by open_clip's own attention over all tokens, without positions."""
    x = (picture - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    x = high.layer4(high.layer3(high.layer2(high.layer1(high.stem(x)))))
    pool = high.attnpool
    kept = pool.positional_embedding
    pool.positional_embedding = nn.Parameter(torch.zeros(1 + x.shape[2] * x.shape[3], x.shape[1]))
    embedding: Tensor = pool(x)
    pool.positional_embedding = kept
    return embedding


@torch.no_grad()
def slow_patches(low: nn.Module, picture: Tensor) -> NDArray[np.float64]:
    """Features ``(n, 128)`` of every 96x96 patch at stride 48, one at a time."""
    height, width = picture.shape[-2:]
    rows = [
        low(picture[..., y : y + PATCH, x : x + PATCH])[0].double().numpy()
        for y in range(0, height - PATCH + 1, STRIDE)
        for x in range(0, width - PATCH + 1, STRIDE)
    ]
    return np.stack(rows)


def slow_low_level(rows: NDArray[np.float64], mean: NDArray[np.float32], cov: NDArray[np.float32]) -> float:
    """Q_L as docs/method.md, section 2, writes it, with an explicit inverse."""
    difference = mean.astype(np.float64) - rows.mean(0)
    middle = (cov.astype(np.float64) + np.cov(rows, rowvar=False)) / 2 + 0.001 * np.eye(len(difference))
    distance = np.sqrt(difference @ np.linalg.inv(middle) @ difference)
    return float(1 - 1 / (1 + np.exp(-distance / 100)))


def slow_high_level(embedding: Tensor, good: Tensor, bad: Tensor) -> float:
    """Q_H as docs/method.md, section 2, writes it."""
    e, g, b = (vector.double().numpy() for vector in (embedding, good, bad))
    closeness = [e @ t / np.sqrt((e @ e) * (t @ t)) for t in (g, b)]
    return float(1 / (1 + np.exp(-10 * (closeness[0] - closeness[1]))))


def write_model(
    folder: Path,
    low: SlowLowLevel,
    high: nn.Module,
    moments: dict[str, NDArray[np.float32]],
    prompts: dict[str, Tensor],
) -> None:
    """A model directory of the paper's kind with these weights."""
    config = {
        "format": 2, "family": "grepq", "name": "parity", "max_side": None,
        "low_level": {"architecture": "resnet18", "patch": PATCH, "stride": STRIDE, "evaluation": "exact"},
        "high_level": {"architecture": "open_clip", "model": "RN50", "mean": list(MEAN), "std": list(STD)},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    state = {}
    for name, tensor in low.state_dict().items():
        plain = name.removeprefix("resnet.")
        state["encoder." + (plain.replace("fc.", "head.") if plain.startswith("fc.") else f"trunk.{plain}")] = tensor
    state = {name: tensor.contiguous() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    state |= {f"pristine.{name}": torch.from_numpy(values) for name, values in moments.items()}
    save_file(state, folder / "low_level.safetensors")
    tower = {
        f"encoder.visual.{name}": tensor.contiguous()
        for name, tensor in high.state_dict().items()
        if not name.endswith(("positional_embedding", "num_batches_tracked"))
    }
    save_file(
        tower | {f"prompts.{name}": vector / vector.norm() for name, vector in prompts.items()},
        folder / "high_level.safetensors",
    )


if __name__ == "__main__":
    main()
