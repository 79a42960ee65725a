"""What version 0.1 left on disk is still read: recipes, model directories, and models fitted with them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from grepq_iqa import GRepQ, load_image
from grepq_iqa.encoders.high_level import HighLevelEncoder
from grepq_iqa.encoders.low_level import LowLevelEncoder
from grepq_iqa.errors import UsageError, WeightsError
from grepq_iqa.training.high_level.clip_tower import ClipRecipe
from grepq_iqa.training.high_level.distortion_head import DistortionHeadRecipe
from grepq_iqa.training.high_level.projection import ProjectionRecipe
from grepq_iqa.training.recipe import (
    FeatureRecipe,
    LowLevelRecipe,
    ScoringRecipe,
    has_section,
    has_setting,
    load_recipe,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What grepq-iqa 0.1.0 (commit b341fd3) itself said of the directory of format 1 that `write_directory` makes: its hash,
# Q of the example photographs, and, after fitting `crops` to LABELS, their predicted MOS and the interval's ends at .8.
# The fit is kept as its `save_pretrained` wrote it. CPU, float32.
CALIBRATION = Path(__file__).parent / "data" / "calibration_0_1.safetensors"
ENCODER_HASH = "b6fb4f68fc9e69afbc15d18ae78c9fd001cddfb4602458c7c137051d6227fe69"
SCORES = [0.739065, 0.721412, 0.734977, 0.651916]
PREDICTIONS = [
    [1.62486, 3.90717, 2.52404, 3.66201],
    [0.17892, 2.87396, 1.38092, 2.36153],
    [2.79555, 5.52096, 4.19976, 5.46468],
]
LABELS = [1.0, 1.4, 4.6, 4.2, 2.4, 2.0, 3.4, 3.1]


# --- recipes --------------------------------------------------------------------------------------------------------

RECIPE_0_1 = """
[low_level]
crop = 64
grid = 1
cell = 32
distortions_per_group = 1
levels_per_distortion = 2
families = ["jpeg", "colour_cast", "quantisation"]
fixed_versions = true
temperature = 0.5
similarity_power = 1.0
batch_groups = 3
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
photographs = 5
steps = 3
batch_ladders = 6
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
group_batch = 7
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

OPTIMIZER = {"warmup_steps": 1, "final_learning_rate": 1e-6, "weight_decay": 0.05, "seed": 0}
TODAY = {
    ("low_level", LowLevelRecipe): OPTIMIZER
    | {"crop": 64, "grid": 1, "cell": 32, "distortions_per_image": 1, "levels_per_distortion": 2}
    | {"families": ["jpeg", "color_cast", "quantization"], "fixed_copies": True, "temperature": 0.5}
    | {"similarity_power": 1.0, "batch_images": 3, "steps": 6, "epochs": 0, "learning_rate": 1e-4}
    | {"averaging": 0.0, "copies_max_side": 0, "equal_cells": False, "separate_views": False, "short_batches": False},
    ("distortion_head", DistortionHeadRecipe): OPTIMIZER
    | {"start": 5, "crop": 48, "batch_images": 2, "unlabeled_images": 4, "steps": 3, "learning_rate": 1e-3}
    | {"distance": 2.0, "severity": 4.0, "ranking": 10.0},
    ("high_level", ProjectionRecipe): {"model": "tf_efficientnet_lite0", "layers": [1, 2], "center_weighted": True}
    | {"head": True, "severity_series": 4, "crop": 64, "unlabeled_images": 5, "steps": 3, "batch_series": 6}
    | {"learning_rate": 1e-3, "weight_decay": 0.05, "dropout": 0.2, "across": 0.1, "neighbors": 0.3}
    | {"clutter": -0.4, "distortion": 0.5, "captions": 0.3, "caption_temperature": 0.07, "gcl": 0.1, "gcl_batch": 7}
    | {"gcl_extremes": 2, "gcl_temperature": 0.5, "margin": 3.0, "seed": 0}
    | {"components": 0, "residual": 1.0, "region_layers": [], "region": 0.0}
    | {"family_costs": {}}
    | {"likeness": 0.0, "likeness_components": 200, "likeness_copies": 8, "constant": 0.0},
    ("scoring", ScoringRecipe): {"high_level_std": 0.1, "low_level_ratio": 0.2, "ridge": 0.0, "prior_patches": 0.0}
    | {"center": 0.0, "pooling": "mean"},
    ("features", FeatureRecipe): {"low_level": 0.5, "layers": [1.0, 0.5], "head": 0.25, "distortion": 2.0}
    | {"region": 1.0, "fine": 1.0},
}


@pytest.mark.parametrize(("section", "kind"), TODAY, ids=[section for section, _ in TODAY])
def test_a_recipe_in_the_words_of_version_0_1_has_equal_settings(section, kind, tmp_path):
    (tmp_path / "old.toml").write_text(RECIPE_0_1)
    want = TODAY[section, kind]
    assert asdict(load_recipe(str(tmp_path / "old.toml"), section, kind)) == want
    # the same recipe in today's words is equal, too
    lines = [f"{key} = {json.dumps(value)}" for key, value in want.items()]
    (tmp_path / "new.toml").write_text("\n".join([f"[{section}]", *lines]))
    assert load_recipe(str(tmp_path / "new.toml"), section, kind) == load_recipe(
        str(tmp_path / "old.toml"), section, kind
    )


def test_the_kind_of_an_old_recipe_is_told(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text(RECIPE_0_1)
    assert has_setting(str(path), "high_level", "severity_series") and has_section(str(path), "distortion_head")
    assert not has_section(str(path), "damage") and not has_section(str(path), "provenance")


def test_an_old_recipe_of_the_papers_tower_has_equal_settings(tmp_path):
    paper = asdict(load_recipe("paper", "high_level", ClipRecipe))
    old = {{"extremes": "group_size"}.get(key, key): value for key, value in paper.items()}
    (tmp_path / "old.toml").write_text(
        "\n".join(["[high_level]", *(f"{key} = {json.dumps(value)}" for key, value in old.items())])
    )
    assert asdict(load_recipe(str(tmp_path / "old.toml"), "high_level", ClipRecipe)) == paper
    assert not has_setting(str(tmp_path / "old.toml"), "high_level", "severity_series")


def test_a_setting_that_no_version_knew_is_still_refused(tmp_path):
    (tmp_path / "odd.toml").write_text(RECIPE_0_1.replace("ladders = 4", "stairs = 4"))
    with pytest.raises(UsageError, match=r"unknown or missing settings: stairs, severity_series$"):
        load_recipe(str(tmp_path / "odd.toml"), "high_level", ProjectionRecipe)


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_bundled_recipes_use_todays_words_only(name):
    """Every key that stands in the file is a field of its section's class: nothing is renamed on the way."""
    from grepq_iqa.training import recipe
    from grepq_iqa.training.recipe import (
        ExpectedRecipe,
        ExportRecipe,
        FineDetailRecipe,
        PredictedFsimRecipe,
        ProvenanceRecipe,
        RatingsRecipe,
    )

    path = Path(recipe.__file__).parent / "recipes" / f"{name}.toml"
    sections = tomllib.loads(path.read_text(encoding="utf-8"))
    classes = dict(list(TODAY)) | {"provenance": ProvenanceRecipe, "export": ExportRecipe, "expected": ExpectedRecipe}
    if name == "compact":
        classes |= {
            "ratings": RatingsRecipe,
            "fine_detail": FineDetailRecipe,
            "predicted_fsim": PredictedFsimRecipe,
        }
    if name == "paper":
        classes["high_level"] = ClipRecipe
        del classes["distortion_head"]
    assert set(sections) == set(classes)
    for section, kind in classes.items():
        assert set(sections[section]) <= set(kind.__dataclass_fields__)
        assert asdict(load_recipe(name, section, kind)).items() >= sections[section].items()


# --- model directories ----------------------------------------------------------------------------------------------

HIGH_LEVEL_1 = {
    "architecture": "timm",
    "model": "tf_efficientnet_lite0",
    "layers": [1, 2],
    "centre": True,
    "head": False,
    "damage": {"start": 5, "reads": ["distance", "quantisation", "colour_cast", "jpeg"]},
    "dim": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "logit_scale": 3.41,
}
HIGH_LEVEL_2 = {
    "architecture": "efficientnet",
    "model": "tf_efficientnet_lite0",
    "layers": [1, 2],
    "center_weighted": True,
    "head": False,
    "distortion_head": {"start": 5, "outputs": ["distance", "quantization", "color_cast", "jpeg"]},
    "dim": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "logit_scale": 3.41,
}
PROVENANCE = {"recipe": "compact", "low_level": {"note": "by hand"}, "mos_used_in_training": False}


def write_directory(folder: Path, version: int) -> Path:
    """A model directory of format 1, as version 0.1 wrote them, or of format 2, with the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(0)  # its numbers are the same in every version of NumPy
    low, high = LowLevelEncoder(), HighLevelEncoder(HIGH_LEVEL_2).tower
    shapes = {"low": low.state_dict(), "high": high.state_dict()}
    tensors: dict[str, dict[str, np.ndarray]] = {"low": {}, "high": {}}
    for part, state in shapes.items():
        for name in sorted(state):
            shape = tuple(state[name].shape)
            if name.endswith("num_batches_tracked"):
                continue
            value = random.standard_normal(shape)
            if len(shape) > 1:
                value *= (2 / np.prod(shape[1:])) ** 0.5
            elif name.endswith(("running_var", "scale")):
                value = 1 + 0.2 * np.abs(value)
            elif name.endswith("weight"):
                value = 1 + 0.1 * value
            else:
                value *= 0.1
            tensors[part][f"encoder.{name}"] = value.astype(np.float16)
    prompts = random.standard_normal((4, 16)).astype(np.float32)
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    words = ("good", "bad", "colorfulness.high", "colorfulness.low")
    tensors["high"] |= {f"prompts.{word}": vector for word, vector in zip(words, prompts, strict=True)}
    tensors["low"] |= {
        "pristine.mean": random.standard_normal(128).astype(np.float32),
        "pristine.cov": np.eye(128, dtype=np.float32),
    }
    if version == 1:
        old = (("distortion_head.linear.", "damage.read."), ("distortion_head.", "damage."), ("color", "colour"))
        for new, word in old:
            tensors["high"] = {name.replace(new, word): value for name, value in tensors["high"].items()}
    save_file(tensors["low"], folder / "low_level.safetensors")
    save_file(tensors["high"], folder / "high_level.safetensors")
    config = {
        "format": version,
        "family": "grepq",
        "name": "compact",
        "low_level": {"architecture": "resnet18", "patch": 96, "stride": 32, "evaluation": "dense"}
        | {"distance_scale": 32.6},
        "high_level": HIGH_LEVEL_1 if version == 1 else HIGH_LEVEL_2,
        "max_side": 160,
        "provenance": PROVENANCE,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def hash_of(folder: Path) -> str:
    """The encoder hash by its definition, over what stands in the files."""
    config = json.loads((folder / "config.json").read_text())
    settings = {key: config.get(key) for key in ("low_level", "high_level", "max_side")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    dtypes = {"float16": "torch.float16", "float32": "torch.float32", "int64": "torch.int64"}
    for file in (
        "low_level.safetensors",
        "high_level.safetensors",
        "fine_detail.safetensors",
        "predicted_fsim.safetensors",
    ):
        for name, value in sorted(load_file(folder / file).items()) if (folder / file).exists() else ():
            digest.update(f"{name} {dtypes[str(value.dtype)]} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def load(folder: Path) -> GRepQ:
    return GRepQ.from_pretrained(folder, device="cpu", dtype="float32")


def crops(photos) -> list:
    return [load_image(photo)[:, y : y + 120, 40:180] for photo in photos for y in (0, 90)]


@pytest.fixture(scope="module")
def format_1(tmp_path_factory) -> Path:
    return write_directory(tmp_path_factory.mktemp("format") / "1", 1)


@pytest.fixture(scope="module")
def format_2(tmp_path_factory) -> Path:
    return write_directory(tmp_path_factory.mktemp("format") / "2", 2)


def test_the_directory_is_what_version_0_1_wrote(format_1):
    names = set(load_file(format_1 / "high_level.safetensors"))
    assert {"encoder.damage.read.weight", "encoder.damage.mean", "prompts.colourfulness.low"} <= names
    assert not any("distortion" in name or "color" in name for name in names)


def test_format_1_has_the_scores_of_format_2_and_of_version_0_1(format_1, format_2, photos):
    old, new = load(format_1), load(format_2)
    scores, features = old.score_and_features(list(photos))
    again, same = new.score_and_features(list(photos))
    np.testing.assert_array_equal(features, same)
    assert scores == again
    assert [score.value for score in scores] == pytest.approx(SCORES, abs=1e-5)
    assert old.config["high_level"] == new.config["high_level"] == HIGH_LEVEL_2 and old.config["format"] == 3
    assert old.config["provenance"] == PROVENANCE  # what tells of its making stays as it stands
    assert set(old._components.prompts) == {"good", "bad", "colorfulness.high", "colorfulness.low"}


def test_format_1_keeps_the_hash_that_version_0_1_gave_it(format_1, format_2):
    assert load(format_1).encoder_hash == hash_of(format_1) == ENCODER_HASH
    assert load(format_2).encoder_hash == hash_of(format_2) != ENCODER_HASH


def test_the_bundled_model_keeps_the_hash_of_its_files(compact):
    import grepq_iqa

    folder = Path(grepq_iqa.__file__).parent / "models" / "compact"
    assert compact.encoder_hash == hash_of(folder)


def test_the_weights_of_version_0_1_keep_their_hash():
    """What fitted models and rows of that time name."""
    assert GRepQ.from_pretrained("compact@0.1").encoder_hash.startswith("498c37d189312d11")


def fitted_by_version_0_1(folder: Path, model: Path) -> Path:
    """A fitted model as version 0.1 left it: its directory with its own calibration.safetensors."""
    shutil.copytree(model, folder)
    shutil.copyfile(CALIBRATION, folder / "calibration.safetensors")
    return folder


def test_a_model_fitted_by_version_0_1_predicts_as_it_did(format_1, photos, tmp_path):
    fitted = load(fitted_by_version_0_1(tmp_path / "fitted", format_1))
    for _ in range(2):
        found = fitted.predict(list(photos), confidence=0.8)
        np.testing.assert_allclose([found.mos, found.low, found.high], PREDICTIONS, atol=1e-4)
        # and it stays one when it is saved again, now with today's code
        fitted = load(fitted.save_pretrained(tmp_path / "again"))
        assert fitted.encoder_hash == ENCODER_HASH
    assert json.loads((tmp_path / "again" / "config.json").read_text())["format"] == 1


def test_a_fit_of_today_is_that_of_version_0_1(format_1, photos):
    found = load(format_1).fit(crops(photos), LABELS, prior="none").predict(list(photos), confidence=0.8)
    np.testing.assert_allclose([found.mos, found.low, found.high], PREDICTIONS, atol=1e-4)


def test_a_fit_belongs_to_the_encoders_that_it_was_made_with(format_2, tmp_path):
    with pytest.raises(WeightsError, match="fitted on the features of other encoders"):
        load(fitted_by_version_0_1(tmp_path / "fitted", format_2))


@pytest.mark.parametrize("version", [1, 2])
def test_another_efficientnet_is_refused_clearly(format_1, format_2, version, tmp_path):
    folder = shutil.copytree(format_1 if version == 1 else format_2, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["high_level"]["model"] = "tf_efficientnet_lite2"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError) as caught:
        load(folder)
    message = str(caught.value)
    assert "'tf_efficientnet_lite2' is not tf_efficientnet_lite0" in message and "grepq-iqa 0.1" in message
    assert "config.json" in message and "\n" not in message


def test_a_later_format_asks_for_an_update(format_2, tmp_path):
    folder = shutil.copytree(format_2, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 4}))
    with pytest.raises(WeightsError, match=r"has format 4; this version reads 1 to 3 \(update grepq-iqa\)"):
        load(folder)


def test_a_pooling_of_a_later_version_asks_for_an_update(format_2, tmp_path):
    folder = shutil.copytree(format_2, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["low_level"]["pooling"] = "mode"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"low_level.pooling 'mode' \(mean or median\) \(update grepq-iqa\)"):
        load(folder)


@pytest.mark.parametrize("version", [1, 2])
def test_a_tensor_too_few_or_too_many_is_named(format_1, format_2, version, tmp_path):
    folder = shutil.copytree(format_1 if version == 1 else format_2, tmp_path / "model")
    tensors = load_file(folder / "high_level.safetensors")
    bias = {1: "encoder.damage.read.bias", 2: "encoder.distortion_head.linear.bias"}[version]
    save_file({name: value for name, value in tensors.items() if name != bias}, folder / "high_level.safetensors")
    with pytest.raises(WeightsError, match=r"missing encoder\.distortion_head\.linear\.bias"):
        load(folder)
    save_file(tensors | {"encoder.damage.extra": np.zeros(1, np.float32)}, folder / "high_level.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected encoder\.distortion_head\.extra"):
        load(folder)
