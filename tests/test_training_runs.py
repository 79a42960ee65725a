"""Training from the command line with tiny settings: every command, kill -9, CLIP by groups, what the model ships."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from random_clip import random_clip, text_reference
from safetensors.torch import save_file
from torch.nn import functional as F
from typer.testing import CliRunner

from grepq_iqa import GRepQ
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training.__main__ import app
from grepq_iqa.training.data.contrastive_views import QualityGroups
from grepq_iqa.training.export import feature_weights
from grepq_iqa.training.high_level.clip_tower import (
    CentreCrops,
    GroupRecipe,
    build_clip_encoder,
    random_projection,
    train_clip_tower,
)
from grepq_iqa.training.high_level.clutter import simplicity_direction, simplicity_of
from grepq_iqa.training.high_level.compact import read_high_level
from grepq_iqa.training.high_level.invariance import blinded
from grepq_iqa.training.recipe import FeatureRecipe, LowLevelRecipe, load_recipe
from grepq_iqa.training.similarity.fsim_cache import SimilarityCache

TINY = """
[low_level]
crop = 64
grid = 1
cell = 32
distortions_per_group = 1
levels_per_distortion = 1
families = "all"
temperature = 0.5
similarity_power = 1.0
batch_groups = 1
steps = 6
warmup_steps = 1
learning_rate = 1e-4
final_learning_rate = 1e-6
weight_decay = 0.05
seed = 0

[damage]
start = 5
crop = 48
batch_groups = 2
photographs = 4
steps = 3
warmup_steps = 1
learning_rate = 1e-3
final_learning_rate = 1e-6
weight_decay = 0.05
distance = 2.0
severity = 4.0
ranking = 10.0
seed = 0

[high_level]
model = "tf_efficientnet_lite0"
layers = [1, 2]
centre = true
head = true
ladders = 4
crop = 64
photographs = 4
steps = 3
batch_ladders = 4
learning_rate = 1e-3
weight_decay = 0.05
dropout = 0.2
across = 0.1
neighbours = 0.3
simplicity = 0.4
damage = 0.5
captions = 0.3
caption_temperature = 0.07
groups = 0.1
group_batch = 4
group_size = 2
group_temperature = 0.5
margin = 3.0
seed = 0

[scoring]
high_level_spread = 0.1
low_level_share = 0.2

[features]
low_level = 0.5
layers = [1.0, 0.5]
head = 0.25
damage = 2.0
"""


def training(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def workshop(photos, tmp_path_factory):
    """Photographs listed, both encoders trained for a few steps, and a model directory exported from them."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "tiny.toml").write_text(TINY)
    said = {"prepare": training("prepare", *photos, "-o", folder / "set", "--pristine")}
    common = ("--photographs", folder / "set", "--recipe", folder / "tiny.toml", "--threads", 1)
    said["low-level"] = training("low-level", *common, "-o", folder / "ll", "--workers", 0)
    said["high-level"] = training("high-level", *common, "-o", folder / "hl", "--pristine", folder / "set")
    runs = ("--low-level", folder / "ll", "--high-level", folder / "hl", "--pristine", folder / "set")
    training("export", *runs, "--photographs", folder / "set", "-o", folder / "model", "--recipe", folder / "tiny.toml")
    return folder, said


def test_prepare_low_level_high_level_export(workshop, photos):
    pytest.importorskip("transformers")
    folder, said = workshop
    tiles = json.loads((folder / "set" / "tiles.json").read_text())["photographs"]
    assert f"{sum(map(len, tiles.values()))} pristine tiles" in said["prepare"] and set(tiles) == {
        str(photo) for photo in photos
    }
    for run in ("ll", "hl/damage", "hl"):
        assert (folder / run / "curve.png").read_bytes().startswith(b"\x89PNG")
    model = GRepQ.from_pretrained(folder / "model", device="cpu")
    score, features = model.analyse([photos[0]])
    assert 0 < score[0].value < 2 and features.shape == (1, 4 * (24 + 40) + 1280 + 21 + 128)
    provenance = model.config["provenance"]
    assert provenance["low_level"]["steps_trained"] == 6 and provenance["high_level"]["projection"]["simplicity"] == 0.4
    assert provenance["high_level"]["damage"]["steps"] == 3
    assert provenance["mos_used_in_training"] is False


def test_parts_of_the_exported_score_share_as_the_recipe_says(workshop, photos):
    folder, _ = workshop
    scores = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32").score(list(photos))
    spread = {part: np.std([getattr(score, part) for score in scores]) for part in ("low_level", "high_level")}
    assert spread["high_level"] == pytest.approx(0.1, rel=0.02)
    assert spread["low_level"] == pytest.approx(0.02, rel=0.02)


def test_scales_of_the_exported_model_carry_the_weights(workshop, photos):
    folder, _ = workshop
    model = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32")
    listed = sorted(str(photo) for photo in photos)
    spread = np.asarray(model.features(listed)).std(0)
    ratio = spread / model.feature_scale
    blocks = np.split(ratio, np.cumsum([96, 160, 1280, 21]))
    for block, weight in zip(blocks, (1.0, 0.5, 0.25, 2.0, 0.5), strict=True):
        moving = block > 1e-6
        np.testing.assert_allclose(block[moving], weight, rtol=0.02)


def test_a_second_high_level_run_reads_the_statistics_of_the_first(workshop):
    folder, _ = workshop
    shard = next((folder / "hl" / "ladders").glob("*.safetensors"))
    before = shard.stat().st_mtime_ns
    first = read_high_level(folder / "hl").encoder.state_dict()
    common = ("--photographs", folder / "set", "--recipe", folder / "tiny.toml", "--pristine", folder / "set")
    training("high-level", *common, "-o", folder / "hl", "--threads", 1)
    assert shard.stat().st_mtime_ns == before
    for name, tensor in read_high_level(folder / "hl").encoder.state_dict().items():
        torch.testing.assert_close(tensor, first[name])


def test_evaluate_and_publish(workshop, photos, empty_hub, monkeypatch):
    folder, _ = workshop
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos"])
        for index in range(15):
            with Image.open(photos[index % len(photos)]) as photo:
                photo.crop((8 * index, 0, 8 * index + 100, 100)).save(folder / f"{index}.png")
            rows.writerow([f"{index}.png", index])
    command = ("--model", folder / "model", "--csv", folder / "labels.csv", "--labels", 5, "--record", "crops")
    found = json.loads(training("evaluate", *command))
    assert found["images"] == 15 and -1 <= found["zero_shot_srcc"]["score"] <= 1
    scores = json.loads((folder / "model" / "config.json").read_text())["provenance"]["scores"]
    assert {s["value"] for s in scores if s.get("labels") == 5} == {found["few_labels_srcc_median"]["5"]}
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    url = training("publish", "--model", folder / "model", "--repo-id", "me/tiny")
    assert "me/tiny" in url
    assert (
        GRepQ.from_pretrained("me/tiny", device="cpu").encoder_hash
        == GRepQ.from_pretrained(folder / "model", device="cpu").encoder_hash
    )


def test_what_is_missing_is_said(workshop, tmp_path):
    folder, _ = workshop
    with pytest.raises(UsageError, match="--pristine"):
        training("high-level", "--photographs", folder / "set", "-o", tmp_path, "--recipe", folder / "tiny.toml")
    with pytest.raises(UsageError, match="no checkpoint"):
        training(
            "export", "--low-level", tmp_path, "--high-level", folder / "hl", "--pristine", folder / "set",
            "--photographs", folder / "set", "-o", tmp_path / "m",
        )  # fmt: skip
    with pytest.raises(UsageError, match="no finished run"):
        read_high_level(tmp_path)
    with pytest.raises(UsageError, match="anew"):
        training("prepare", folder / "tiny.toml", "-o", tmp_path / "set", "--recipe", "compact")


def test_kill_9_and_resume_give_the_same_loss_curve(workshop, tmp_path):
    folder, _ = workshop
    command = [
        sys.executable, "-m", "grepq_iqa.training", "low-level", "--photographs", str(folder / "set"),
        "--recipe", str(folder / "tiny.toml"), "--out", str(tmp_path / "ll"), "--workers", "0", "--threads", "1",
        "--save-every", "1",
    ]  # fmt: skip
    metrics = tmp_path / "ll" / "metrics.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)

    def losses(path: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in path.read_text().splitlines()]

    assert losses(metrics) == pytest.approx(losses(folder / "ll" / "metrics.jsonl"), abs=1e-6)


# --- CLIP by groups -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    state = random_clip()
    save_file(state, path)
    return path, state


def test_clip_is_trained_by_groups(clip_checkpoint, photos, tmp_path):
    checkpoint, state = clip_checkpoint
    recipe = load_recipe("paper", "high_level", GroupRecipe, batch_size=4, group_size=2, crop=64, steps=2)
    before = build_clip_encoder("RN50", {k: v.float() for k, v in state.items()})
    train_clip_tower(photos, recipe, checkpoint, tmp_path, workers=0)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    run = read_high_level(tmp_path)

    # the first loss, by loops over the definition
    pictures = torch.stack(
        [item["pictures"] for item in (CentreCrops(photos, 64, 4, 1, recipe.seed)[i] for i in range(4))]
    )
    good, bad = text_reference(state, [recipe.prompt_good, recipe.prompt_bad])
    with torch.no_grad():  # BatchNorm by the batch's own statistics, as in training
        embedding = before.train()(pictures).embedding
    unit = F.normalize(embedding, dim=-1)
    quality = unit @ good - unit @ bad
    order = quality.argsort(descending=True).tolist()
    groups = order[:2], order[-2:]
    assert rows[0]["gap"] == pytest.approx((quality[groups[0]].mean() - quality[groups[1]].mean()).item(), abs=1e-4)
    z = F.normalize(random_projection(1024, recipe.projection_dim, recipe.seed)(embedding), dim=-1)
    total = 0.0
    for own, other in (groups, groups[::-1]):
        for i in own:
            positive = np.mean([float(z[i] @ z[j]) for j in own if j != i]) / recipe.temperature
            negatives = [float(z[i] @ z[k]) / recipe.temperature for k in other]
            total += -positive + np.log(np.exp(positive) + np.exp(negatives).sum())
    assert rows[0]["loss"] == pytest.approx(total / 4, abs=1e-3)

    after = run.encoder.tower.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in before.tower.state_dict().items() if "running_mean" in k)
    torch.testing.assert_close(
        torch.stack([run.prompts["good"], run.prompts["bad"]]),
        text_reference(state, ["A good photo.", "A bad photo."]), atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_clip_training_refuses_what_cannot_work(clip_checkpoint, photos, tmp_path):
    checkpoint, _ = clip_checkpoint
    recipe = load_recipe("paper", "high_level", GroupRecipe)
    assert (recipe.batch_size, recipe.group_size, recipe.learning_rate, recipe.epochs) == (128, 4, 1e-6, 15)
    with pytest.raises(UsageError, match="takes 128 photographs"):
        train_clip_tower(photos, recipe, checkpoint, tmp_path)
    with pytest.raises(UsageError, match="smaller than the crop"):
        CentreCrops(photos, 5000, 4, 1, 0)[0]


# --- parts ----------------------------------------------------------------------------------------------------------


def test_similarity_is_computed_once_for_fixed_versions(photos, tmp_path):
    recipe = load_recipe("paper", "low_level", LowLevelRecipe, crop=64, grid=2, distortions_per_group=2)
    assert recipe.fixed_versions
    cache = SimilarityCache(tmp_path, recipe)
    groups = QualityGroups(photos, recipe, 3 * len(photos), cache)
    counts = []
    groups.fill_cache(counts.append)
    assert counts == list(range(1, len(photos) + 1)) and len(list(cache.folder.iterdir())) == len(photos)

    def refuse():
        raise AssertionError("computed again")

    kept = [cache.get(photo, refuse) for photo in photos]
    by_matrix = {tuple(matrix.flatten().tolist()) for matrix in kept}
    epochs = [groups[index] for index in range(2 * len(photos))]
    assert {tuple(item["similarity"].flatten().tolist()) for item in epochs} == by_matrix
    plain = QualityGroups(photos, recipe, 3 * len(photos))
    torch.testing.assert_close(plain[1]["similarity"], groups[1]["similarity"])
    assert not torch.equal(epochs[0]["first"], epochs[len(photos)]["first"])

    damaged = next(cache.folder.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:20])
    groups.fill_cache()
    assert len(damaged.read_bytes()) > 20
    other = SimilarityCache(tmp_path, load_recipe("paper", "low_level", LowLevelRecipe, crop=96))
    assert other.folder != cache.folder


def test_simplicity_is_standard_over_photographs_and_blind_to_damage():
    generator = torch.Generator().manual_seed(0)
    clutter = torch.randn(400, 1, generator=generator)
    photographs = clutter * torch.ones(12) + 0.5 * torch.randn(400, 12, generator=generator)
    starts = photographs[:100]
    fading = torch.zeros(12)
    fading[:6] = -0.4  # damage quietens half of the channels, so the mean alone would take it for simplicity
    ladders = torch.stack([starts + step * fading for step in range(6)], dim=1)
    simple = simplicity_of(photographs)
    weights, offset = simplicity_direction(photographs, simple, ladders)
    found = photographs @ weights + offset
    assert found.mean().item() == pytest.approx(0, abs=1e-4) and found.std().item() == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(found, simple)[0, 1] > 0.9
    drift = (ladders[:, -1] - ladders[:, 0]) @ weights
    assert (simplicity_of(ladders[:, -1]) - simplicity_of(ladders[:, 0])).mean() > 0.9 * simple.std()
    assert drift.abs().mean() < 0.1


def test_a_blinded_direction_no_longer_follows_moves():
    generator = torch.Generator().manual_seed(0)
    direction, moved = torch.randn(20, generator=generator), torch.randn(20, generator=generator)
    moves = 3 * torch.randn(50, 1, generator=generator) * moved + 0.01 * torch.randn(50, 20, generator=generator)
    found = blinded(direction, moves)
    assert (moves @ found).abs().mean() < 0.02 * (moves @ direction).abs().mean()
    # all that is taken away lies along the moves
    aside = direction - (direction @ moved) / (moved @ moved) * moved
    torch.testing.assert_close(found, aside, atol=0.02, rtol=0.02)
    assert blinded(direction, moves[:0]) is direction


def test_feature_weights_need_one_weight_a_block():
    config = {
        "architecture": "timm", "model": "tf_efficientnet_lite0", "layers": [2, 4], "dim": 8,
        "mean": [0.5] * 3, "std": [0.5] * 3, "head": True,
    }  # fmt: skip
    high, low = HighLevelEncoder(config), LowLevelEncoder()
    weights = feature_weights(high, low, FeatureRecipe(0.5, [1.0, 0.25], 2.0))
    assert len(weights) == high.feature_dim + 128
    np.testing.assert_array_equal(weights[[0, 79, 80, 303, 304, 1583, 1584, -1]], [1, 1, 0.25, 0.25, 2, 2, 0.5, 0.5])
    with pytest.raises(UsageError, match="3 positive weights"):
        feature_weights(high, low, FeatureRecipe(0.5, [1.0], 2.0))
