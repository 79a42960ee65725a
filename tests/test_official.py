"""Importing the authors' three files, made here with their layout and random weights."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from grepq_iqa.cli.weights import app as weights_cli
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.weights.import_official import (
    high_level_tensors,
    import_official,
    load_tensors,
    low_level_tensors,
    pristine_statistics,
)


class AuthorsEncoder(nn.Module):
    """The network whose state dict the authors saved: torchvision's, and a Sequential of its children."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.base_model = resnet18()
        self.resnet18 = nn.Sequential(*list(self.base_model.children())[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnet18(x).squeeze(-1).squeeze(-1)


class AuthorsLowLevel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = AuthorsEncoder()
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


@pytest.fixture(scope="module")
def authors() -> AuthorsLowLevel:
    torch.manual_seed(1)
    model = AuthorsLowLevel().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def clip_state() -> dict[str, Tensor]:
    from random_clip import random_clip

    return random_clip()


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    random = np.random.default_rng(2)
    coarse = torch.from_numpy(random.random((50, 3, 12, 12), dtype=np.float32))
    smooth = F.interpolate(coarse, size=96, mode="bilinear", align_corners=False).numpy()
    return np.clip(smooth + random.normal(0, 0.03, smooth.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def release(tmp_path_factory, authors, clip_state, patches) -> dict[str, Path]:
    """The three files, and a checkpoint with the text tower."""
    h5py = needs("h5py")
    folder = tmp_path_factory.mktemp("release")
    files = {
        "low_level": folder / "low_level_model_weights.tar",
        "high_level": folder / "high_level_model_weights.pth",
        "pristine": folder / "pristine_patches_096_0.75_0.80.hdf5",
        "clip": folder / "open_clip_model.safetensors",
    }
    optimizer = torch.optim.AdamW(authors.parameters())
    content = {
        "model": {"state_dict": authors.state_dict()},
        "current_iteration": 9315,
        "optimizer": {"state_dict": optimizer.state_dict()},
    }
    torch.save(content, files["low_level"])
    torch.save(visual(clip_state), files["high_level"])
    with h5py.File(files["pristine"], "w") as file:
        file.create_dataset("data", data=patches)
    save_file({k: v for k, v in clip_state.items() if not k.startswith("visual.")}, files["clip"])
    return files


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, release) -> Path:
    """Made by the command, once: two encoders and a text tower take their time."""
    folder = tmp_path_factory.mktemp("models") / "rn50"
    arguments = [f"--{name.replace('_', '-')}={path}" for name, path in release.items()]
    result = CliRunner().invoke(weights_cli, ["import-official", *arguments, "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder)
    return folder


def visual(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("visual."): tensor for name, tensor in state.items() if name.startswith("visual.")}


# --- the formulas, slowly, from the authors' tensors ------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def pristine_features(authors, patches) -> np.ndarray:
    with torch.no_grad():
        return authors(torch.from_numpy(patches)).double().numpy()


@pytest.fixture(scope="module")
def tower(clip_state):
    """open_clip's own image tower, its attention pool taken off."""
    from open_clip.modified_resnet import ModifiedResNet

    tower = ModifiedResNet([3, 4, 6, 3], 1024, 32, 224, 64).eval()
    tower.load_state_dict({name: tensor.float() for name, tensor in visual(clip_state).items()})
    pool, tower.attnpool = tower.attnpool, nn.Identity()
    return tower, pool


@pytest.fixture(scope="module")
def sentences(clip_state) -> Tensor:
    from random_clip import text_reference

    return text_reference(clip_state, ["A good photo.", "A bad photo."])


@pytest.fixture(scope="module")
def model(model_folder):
    from grepq_iqa import GRepQ

    return GRepQ.from_pretrained(model_folder, device="cpu", dtype="float32")


def slow_low_level(authors: AuthorsLowLevel, reference: np.ndarray, image: np.ndarray) -> float:
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)
    _, height, width = pixels.shape
    tiles = [
        pixels[:, top : top + 96, left : left + 96]
        for top in range(0, height - 95, 48)
        for left in range(0, width - 95, 48)
    ]
    with torch.no_grad():
        test = authors(torch.stack(tiles)).double().numpy()
    mu = reference.mean(0) - test.mean(0)
    middle = (np.cov(reference, rowvar=False) + np.cov(test, rowvar=False)) / 2 + 0.001 * np.eye(128)
    return 1 - sigmoid(math.sqrt(mu @ np.linalg.inv(middle) @ mu) / 100)


def slow_high_level(tower, sentences: Tensor, image: np.ndarray) -> float:
    """The whole of the attention, every token asking, without positional embedding; the first token's answer."""
    trunk, pool = tower
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = (torch.from_numpy(image.astype(np.float32) / 255) - mean) / std
    with torch.no_grad():
        grid = trunk(pixels.permute(2, 0, 1)[None])[0].flatten(1).T  # (hw, 2048)
        tokens = torch.cat([grid.mean(0, keepdim=True), grid])
        query, key, value = (
            layer(tokens).reshape(len(tokens), 32, 64).transpose(0, 1)
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
        )
        attention = (query @ key.transpose(1, 2) / 8).softmax(-1)
        embedding = pool.c_proj((attention @ value).transpose(0, 1).flatten(1))[0]
        good, bad = F.cosine_similarity(embedding[None], sentences).tolist()
    return sigmoid(10 * (good - bad))


def photograph(width: int, height: int) -> np.ndarray:
    random = np.random.default_rng(width * height)
    coarse = torch.from_numpy(random.random((1, 3, height // 20 + 2, width // 20 + 2), dtype=np.float32))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
    noisy = smooth.numpy() + random.normal(0, 0.05, smooth.shape)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(500, 500), (640, 480), (1000, 400), (97, 300)])
def test_scores_equal_the_formulas(model, authors, pristine_features, tower, sentences, width, height):
    image = photograph(width, height)
    score = model.score(image)
    low = slow_low_level(authors, pristine_features, image)
    high = slow_high_level(tower, sentences, image)
    assert 0.001 < low < 0.499, "random weights saturate the score, so the test would show nothing"
    assert abs(high - 0.5) > 1e-4, "both sentences are equally near, so the test would show nothing"
    assert score.low_level == pytest.approx(low, abs=1e-4)
    assert score.high_level == pytest.approx(high, abs=1e-4)
    assert score.value == pytest.approx(low + high, abs=1e-4)


# --- what is written -------------------------------------------------------------------------------------------------


def test_directory(model_folder, clip_state, authors):
    names = sorted(path.name for path in model_folder.iterdir())
    assert names == ["config.json", "high_level.safetensors", "low_level.safetensors"]
    config = json.loads((model_folder / "config.json").read_text())
    assert config["name"] == "rn50"
    assert config["low_level"] == {"architecture": "resnet18", "patch": 96, "stride": 48, "evaluation": "exact"}
    assert all(len(source["sha256"]) == 64 for source in config["provenance"]["imported"].values())
    low = load_file(model_folder / "low_level.safetensors")
    assert torch.equal(low["encoder.trunk.layer3.1.bn2.bias"], authors.state_dict()["encoder.resnet18.6.1.bn2.bias"])
    assert torch.equal(low["encoder.head.2.weight"], authors.state_dict()["head.2.weight"])
    high = load_file(model_folder / "high_level.safetensors")
    assert {tensor.dtype for name, tensor in high.items() if not name.endswith("tracked")} == {torch.float32}
    assert not any("positional" in name for name in high)
    assert high["prompts.good"].norm() == pytest.approx(1, abs=1e-5)
    assert torch.equal(high["encoder.visual.conv1.weight"], clip_state["visual.conv1.weight"].float())


def test_existing_model_is_not_overwritten(model_folder, release):
    before = (model_folder / "low_level.safetensors").stat().st_mtime_ns
    with pytest.raises(UsageError, match="--overwrite"):
        import_official(output=model_folder, **release)
    assert (model_folder / "low_level.safetensors").stat().st_mtime_ns == before


def test_text_tower_that_cannot_be_fetched(release, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    with pytest.raises(WeightsError, match="--clip FILE"):
        import_official(output=tmp_path / "out", **{**release, "clip": None})
    assert not (tmp_path / "out").exists()


# --- pickles ---------------------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["state dict", "beside it"])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, place):
    bomb, tensors = Bomb(tmp_path / "ran"), {"head.0.weight": torch.zeros(1)}
    content = {"model": {"state_dict": tensors}}
    (tensors if place == "state dict" else content)["extra"] = bomb
    torch.save(content, tmp_path / "file.tar")
    with pytest.raises(WeightsError, match="refused"):
        load_tensors(tmp_path / "file.tar", ("model", "state_dict"))
    assert not (tmp_path / "ran").exists()


def test_state_dict_with_something_else_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1), "epoch": 3, "name": "x"}, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match="not a tensor: epoch, name"):
        load_tensors(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 broken zip", b"\x80\x02}q\x00."])
def test_file_that_is_no_pickle_of_tensors(tmp_path, content):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"file\.pth"):
        load_tensors(path)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*TorchScript archive:UserWarning")
def test_missing_truncated_and_scripted_files(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        load_tensors(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"half\.pth"):
        load_tensors(tmp_path / "half.pth")
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    with pytest.raises(WeightsError, match=r"script\.pt"):
        load_tensors(tmp_path / "script.pt")


def test_files_in_the_wrong_order(release):
    with pytest.raises(WeightsError, match=r"has no \['model'\]"):
        load_tensors(release["high_level"], ("model", "state_dict"))
    with pytest.raises(WeightsError, match="not a tensor"):
        load_tensors(release["low_level"])


# --- names of tensors ------------------------------------------------------------------------------------------------


def test_low_level_names(authors):
    mapped = low_level_tensors(authors.state_dict())
    encoder = LowLevelEncoder().eval()
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in mapped.items()})
    images = torch.rand(2, 3, 100, 130)
    with torch.no_grad():
        assert torch.allclose(encoder(images), authors(images), atol=1e-5)


def test_low_level_second_copy_may_be_numbered_or_absent(authors):
    state = authors.state_dict()
    alone = {name: tensor for name, tensor in state.items() if ".base_model." not in name}
    numbered = {name.replace("resnet18", "base_model"): t for name, t in alone.items() if "resnet18" in name}
    expected = low_level_tensors(state)
    for variant in (alone, alone | numbered):
        mapped = low_level_tensors(variant)
        assert all(torch.equal(mapped[name], tensor) for name, tensor in expected.items())


def test_low_level_names_every_problem(authors):
    state = authors.state_dict()
    del state["encoder.resnet18.0.weight"], state["encoder.resnet18.5.0.downsample.1.bias"]
    state["head.2.bias"] = torch.zeros(7)
    state["projector.weight"] = torch.zeros(1)
    state["encoder.base_model.odd"] = torch.zeros(1)
    state["encoder.base_model.layer4.1.bn1.bias"] = torch.ones(512)
    with pytest.raises(WeightsError) as caught:
        low_level_tensors(state, "F.tar")
    for words in (
        "F.tar",
        "missing encoder.resnet18.0.weight",
        "missing encoder.resnet18.5.0.downsample.1.bias",
        "head.2.bias is (7,), not (128,)",
        "unexpected projector.weight",
        "unexpected encoder.base_model.odd",
        "encoder.base_model.layer4.1.bn1.bias differs",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("positional", [True, False])
def test_high_level_names(clip_state, positional):
    state = visual(clip_state)
    if not positional:
        del state["attnpool.positional_embedding"]
    mapped = high_level_tensors(state)
    assert len(mapped) == len(visual(clip_state)) - 1
    assert torch.equal(mapped["encoder.visual.layer1.0.conv1.weight"], state["layer1.0.conv1.weight"].float())


def test_high_level_names_every_problem(clip_state):
    state = visual(clip_state)
    del state["attnpool.q_proj.bias"]
    state["proj"] = torch.zeros(1)
    state["bn1.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError) as caught:
        high_level_tensors(state, "F.pth")
    for words in ("F.pth", "missing attnpool.q_proj.bias", "unexpected proj", "bn1.weight is (3,), not (32,)"):
        assert words in str(caught.value)


# --- pristine patches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [7, 64])
def test_pristine_statistics(release, authors, pristine_features, chunk):
    encoder = LowLevelEncoder().eval()
    mapped = low_level_tensors(authors.state_dict())
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in mapped.items()})
    seen: list[tuple[int, int]] = []
    mean, cov = pristine_statistics(
        encoder, release["pristine"], chunk=chunk, progress=lambda done, total: seen.append((done, total))
    )
    assert np.allclose(mean, pristine_features.mean(0), atol=1e-5)
    assert np.allclose(cov, np.cov(pristine_features, rowvar=False), atol=1e-5)
    assert seen[-1] == (50, 50)
    assert len(seen) == math.ceil(50 / chunk)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("data", np.zeros((2, 3, 96, 95), np.float32), "not at least two"),
        ("data", np.zeros((1, 3, 96, 96), np.float32), "not at least two"),
        ("data", np.zeros((2, 3, 96, 96), np.uint8), "not at least two"),
        ("data", np.full((2, 3, 96, 96), 255, np.float32), r"outside \[0, 1\]"),
        ("data", np.full((2, 3, 96, 96), np.nan, np.float32), r"outside \[0, 1\]"),
        ("patches", np.zeros((2, 3, 96, 96), np.float32), "no dataset 'data'"),
    ],
)
def test_pristine_file_that_is_not_one(tmp_path, name, data, words):
    h5py = needs("h5py")
    with h5py.File(tmp_path / "p.hdf5", "w") as file:
        file.create_dataset(name, data=data)
    with pytest.raises(WeightsError, match=words):
        pristine_statistics(LowLevelEncoder().eval(), tmp_path / "p.hdf5")


def test_pristine_file_that_is_not_hdf5(tmp_path):
    needs("h5py")
    (tmp_path / "p.hdf5").write_bytes(b"no")
    for path in (tmp_path / "p.hdf5", tmp_path / "none.hdf5"):
        with pytest.raises(WeightsError, match="not a readable HDF5 file"):
            pristine_statistics(LowLevelEncoder().eval(), path)


def test_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r"grepq-iqa\[official\]"):
        pristine_statistics(LowLevelEncoder().eval(), tmp_path / "p.hdf5")
