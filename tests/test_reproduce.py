"""`reproduce` from photographs to a measured model, at toy size, for both recipes; a model named like a bundled one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_clip import write_random_clip
from safetensors.numpy import load_file
from test_training_runs import TINY, training

from grepq_iqa import GRepQ
from grepq_iqa.errors import GrepqError, LabelsError, UsageError
from grepq_iqa.training import stages
from grepq_iqa.training.recipe import ExpectedRecipe, load_recipe
from grepq_iqa.training.reproduce import verdict

PAPER = """
[low_level]
crop = 64
grid = 1
cell = 32
distortions_per_image = 1
levels_per_distortion = 1
fixed_copies = true
copies_max_side = 300
equal_cells = true
separate_views = true
short_batches = true
families = ["gaussian_blur", "white_noise"]
temperature = 0.5
similarity_power = 1.0
batch_images = 2
epochs = 1
warmup_steps = 0
learning_rate = 1e-4
final_learning_rate = 1e-6
weight_decay = 0.05
seed = 0

[high_level]
model = "RN50"
crop = 64
batch_size = 4
extremes = 2
temperature = 0.5
projection_dim = 16
epochs = 2
warmup_epochs = 1
learning_rate = 1e-6
prompt_good = "a Good photo."
prompt_bad = "a Bad photo."
seed = 0

[scoring]
high_level_std = 0

[features]
low_level = 1.0
layers = [1.0]

[export]
max_side = 256

[expected]
data = "nothing that anybody has"
srcc = { zero-shot = 0.5, 10 = 0.25 }
"""


COMPACT = (
    TINY.replace(
        "margin = 3.0",
        "margin = 3.0\ncomponents = 2\nresidual = 0.5\nregion_layers = [2]\nregion = 0.4\nlikeness = 0.3\n"
        "family_costs = { jpeg = 0.1 }",
    )
    .replace(
        "low_level_ratio = 0.2",
        "low_level_ratio = 0.2\nridge = 1.0\nprior_patches = 3.0\ncenter = 0.6\npooling = 'median'",
    )
    .replace("[scoring]", "[fine_detail]\nseries = 9\nweight = 0.3\nclose_up = 0.25\nepochs = 2\n\n[scoring]")
    .replace(
        "[scoring]",
        "[predicted_fsim]\nseries = 9\nunlabeled_images = 3\nweight = 2.0\ncrop = 64\nepochs = 2\n\n[scoring]",
    )
    .replace("distortion = 2.0", "distortion = 2.0\nregion = 0.75\nfine = 0.5")
)
"""With all that the bundled model has."""


@pytest.fixture(scope="module")
def place(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "compact.toml").write_text(COMPACT)
    (folder / "paper.toml").write_text(PAPER)
    write_random_clip(folder / "clip.safetensors")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos"])
        for index, photo in enumerate([*photos, *photos]):
            with Image.open(photo) as picture:
                picture.crop((40 * index, 0, 40 * index + 100, 100)).save(folder / f"{index}.png")
            rows.writerow([f"{index}.png", index])
    return folder


def reproduce(place: Path, recipe: str, out: Path, photos: list[Path], *more: object) -> str:
    return training(
        "reproduce", *photos, *(word for photo in photos for word in ("--pristine", photo)), "-o", out,
        "--recipe", place / f"{recipe}.toml", "--workers", 0, "--threads", 1, *more,
    )  # fmt: skip


def skipped(said: str) -> list[str]:
    """Stages that were finished before, in order."""
    return [line.split(":")[0] for line in said.splitlines() if "finished before" in line]


def test_the_compact_recipe_from_photographs_to_a_model_and_nothing_twice(place, photos):
    out = place / "compact"
    said = reproduce(place, "compact", out, photos, "--csv", place / "labels.csv", "--labels", 3)
    assert "finished before" not in said
    last = said.strip().splitlines()[-1]
    assert "Recipe compact.toml states no expected figures; found on" in last and "zero-shot " in last
    model = GRepQ.from_pretrained(out / "model")
    assert model.config["name"] == "compact" and 0 < float(model.score(photos[0])) < 1.5
    assert (out / "model" / "README.md").read_text().startswith("---")
    check_costs_of_light_damage(model, photos)
    exact = GRepQ.from_pretrained(out / "model", engine="torch", device="cpu", dtype="float32")
    check_worth_of_predicted_fsim(exact, exact.features(photos))
    before = {path: path.read_bytes() for path in (out / "model").iterdir()}

    said = reproduce(place, "compact", out, photos, "--csv", place / "labels.csv", "--labels", 3)
    stages_skipped = skipped(said)
    assert stages_skipped == [
        "low-level",
        "high-level",
        "fine-detail",
        "predicted-fsim",
        "export",
        "int8",
        "evaluate",
    ]
    assert GRepQ.from_pretrained(out / "model", engine="onnx").score(photos[0]) is not None
    assert said.strip().splitlines()[-1] == last
    assert {path: path.read_bytes() for path in (out / "model").iterdir()} == before

    # another setting of the scores: the trainings stay, the model is made again; the old runs are left alone
    (place / "other.toml").write_text(COMPACT.replace("high_level_std = 0.1", "high_level_std = 0.05"))
    said = reproduce(place, "other", out, photos)
    assert skipped(said) == [
        "low-level",
        "high-level",
        "fine-detail",
        "predicted-fsim",
    ]
    assert said.strip().endswith("nothing was measured (--csv LABELS).")
    assert GRepQ.from_pretrained(out / "model").config["name"] == "other"
    check_parts_that_do_not_belong_together(place, out)


def check_parts_that_do_not_belong_together(place: Path, out: Path) -> None:
    """Are refused before anything is written: the provenance would tell of another training."""
    [low], [high], [fine], [fsim] = (
        out.glob(f"{kind}-*") for kind in ("low_level", "high_level", "fine_detail", "predicted_fsim")
    )
    sets = ("--pristine", out / "pristine", "--photographs", out / "photographs")

    def export(recipe: str, *parts: object) -> None:
        training(
            "export", "--low-level", low, "--high-level", high, *sets, *parts, "-o", place / "no", "--recipe", recipe
        )

    (place / "more.toml").write_text(COMPACT.replace("[fine_detail]", "[fine_detail]\nseed = 3"))
    with pytest.raises(UsageError, match=r"fine_detail-.* was trained with other settings \(seed\)"):
        export(place / "more.toml", "--fine-detail", fine, "--predicted-fsim", fsim)
    with pytest.raises(UsageError, match=r"predicted_fsim-.* learned from other encoders"):
        export(place / "compact.toml", "--predicted-fsim", fsim)
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        export(place / "compact.toml", "--fine-detail", place / "nothing")
    assert not (place / "no").exists()


def check_costs_of_light_damage(model: GRepQ, photos: list[Path]) -> None:
    """The last three features are amounts; they move the projection by their sum, in its own standard deviations."""
    assert model.config["fine_detail"] == {"amounts": ["blur", "noise", "compression"]}
    assert {key: model.config["low_level"][key] for key in ("ridge", "prior_patches", "center", "pooling")} == {
        "ridge": 1,
        "prior_patches": 3,
        "center": 0.6,
        "pooling": "median",
    }
    assert model.config["high_level"]["region_contrast"] == {"layers": [2]}
    features = model.features(photos)
    fsim = model._components.predicted_fsim  # it reads amounts, too

    def without_fsim(features):
        return model.projected(features) - fsim.shift(features)

    projected = without_fsim(features)
    free = features.copy()
    amounts = free[:, -3:].sum(1)
    assert (amounts >= 0).all()
    free[:, -3:] = amounts.mean() / 3
    spread = without_fsim(free).std()
    np.testing.assert_allclose(
        (projected - without_fsim(free)) / spread, 0.3 * (amounts.mean() - amounts), rtol=2e-3, atol=2e-3
    )
    np.testing.assert_allclose(model.feature_scale[-3:], np.maximum(features[:, -3:].std(0), 1e-6) / 0.5, rtol=1e-3)
    scores = [float(score.high_level) for score in model.score(photos)]
    np.testing.assert_allclose(model.high_level_scores(features), scores, rtol=1e-4)


def check_worth_of_predicted_fsim(model: GRepQ, features: np.ndarray) -> None:
    """It reads the distortion head and the amounts, and is worth what the recipe says, in standard deviations."""
    fsim = model._components.predicted_fsim
    head = model.config["high_level"]["distortion_head"]["outputs"]
    encoded = model.feature_dim - 3
    assert fsim.inputs.tolist() == [
        *range(model._components.high_level_dim - 1 - len(head), model._components.high_level_dim - 1),
        *range(encoded, encoded + 3),
    ]  # the last high-level feature compares regions
    spread = (model.projected(features) - fsim.shift(features)).std()
    np.testing.assert_allclose(fsim.weight / spread, 2, rtol=1e-3)
    np.testing.assert_allclose(fsim(features).mean(), fsim.expected, atol=1e-4)


def test_the_papers_recipe(place, photos):
    out = place / "paper"
    clip = ("--clip", place / "clip.safetensors")
    said = reproduce(place, "paper", out, photos, *clip, "--csv", place / "labels.csv", "--labels", 3)
    last = said.strip().splitlines()[-1]
    assert "expects, on nothing that anybody has: SRCC zero-shot 0.500, 10 labels 0.250; found on" in last
    found = json.loads((out / "evaluation.json").read_text())
    assert f"zero-shot {found['zero-shot']:.3f} ({found['zero-shot'] - 0.5:+.3f})" in last
    config = GRepQ.from_pretrained(out / "model").config
    assert config["max_side"] == 256 and config["high_level"]["architecture"] == "open_clip"
    assert len(list((out / "photographs").glob("copies-*/*.npy"))) == len(photos)
    said = reproduce(place, "paper", out, photos, *clip, "--csv", place / "labels.csv", "--labels", 3)
    assert said.count("finished before") == 4


def test_a_killed_reproduction_goes_on(place, photos, tmp_path, monkeypatch):
    whole = stages.export_stage

    def die(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "export_stage", die)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        reproduce(place, "compact", tmp_path / "out", photos)
        raise SystemExit  # typer turns Ctrl-C into an exit status
    monkeypatch.setattr(stages, "export_stage", whole)
    said = reproduce(place, "compact", tmp_path / "out", photos)
    assert said.count("finished before") == 4 and (tmp_path / "out" / "model" / "config.json").is_file()


def test_an_export_that_was_stopped_is_not_taken_for_the_one_before(place, photos, tmp_path, monkeypatch):
    """Its key is another, but what it leaves has the names of the finished one."""
    from grepq_iqa.training import export

    out = tmp_path / "out"
    reproduce(place, "compact", out, photos)
    before = {path.name: path.read_bytes() for path in (out / "model").iterdir()}
    whole = export.score_photographs

    def die(*arguments, **options):
        raise KeyboardInterrupt

    (tmp_path / "other.toml").write_text(COMPACT.replace("high_level_std = 0.1", "high_level_std = 0.05"))
    monkeypatch.setattr(export, "score_photographs", die)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        reproduce(tmp_path, "other", out, photos)
        raise SystemExit  # typer turns Ctrl-C into an exit status
    assert not (out / "model" / "features.safetensors").exists()
    monkeypatch.setattr(export, "score_photographs", whole)
    said = reproduce(place, "compact", out, photos)
    assert skipped(said) == [
        "low-level",
        "high-level",
        "fine-detail",
        "predicted-fsim",
    ]
    assert {path.name: path.read_bytes() for path in (out / "model").iterdir()} == before


def test_a_missing_table_is_said_before_anything_is_done(place, photos, tmp_path):
    with pytest.raises(GrepqError, match=r"no table .*none\.csv"):
        reproduce(place, "compact", tmp_path / "out", photos, "--csv", tmp_path / "none.csv")
    with pytest.raises(UsageError, match="200 labels asked for"):
        reproduce(place, "compact", tmp_path / "out", photos, "--csv", place / "labels.csv")
    rated = ("--rated", place / "labels.csv")
    with pytest.raises(UsageError, match=r"\[ratings\]"):
        reproduce(place, "compact", tmp_path / "out", photos, *rated)
    (tmp_path / "rated.toml").write_text(f"{COMPACT}\n[ratings]\nscore_share = 0.1\n")
    with pytest.raises(GrepqError, match=r"none\.csv"):
        reproduce(tmp_path, "rated", tmp_path / "out", photos, "--rated", tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"scores go from 0 to 7, not within the bounds 0 to 1"):
        reproduce(tmp_path, "rated", tmp_path / "out", photos, *rated)
    with pytest.raises(LabelsError, match="8 rated photographs are too few; 100 are needed"):
        reproduce(tmp_path, "rated", tmp_path / "out", photos, *rated, "--rated-bounds", 0, 7)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("weight = 0.3", "weight = [0.3, 0.2]", "one each for blur, noise, compression"),
        ("family_costs = { jpeg = 0.1 }", "family_costs = { snow = 0.1 }", "no family snow; known: gaussian_blur"),
        ("[distortion_head]", "[another_head]", r"\[predicted_fsim\] needs a section \[distortion_head\]"),
        ("layers = [1.0, 0.5]", "layer = [1.0, 0.5]", r"\[features\]: unknown or missing settings: layer, layers"),
        ("layers = [1.0, 0.5]", "layers = [1.0]", r"layers in \[features\] are 1 weights, not one for each of the 2"),
        ("region_layers = [2]", "region_layers = [5]", "are some of its layers"),
        ("region_layers = [2]", "", "region in .* needs region_layers"),
    ],
)
def test_what_is_wrong_in_late_sections_of_a_recipe_is_said_before_anything_is_done(
    right, wrong, sentence, place, photos, tmp_path
):
    assert right in COMPACT
    (tmp_path / "wrong.toml").write_text(COMPACT.replace(right, wrong))
    with pytest.raises(UsageError, match=sentence):
        reproduce(tmp_path, "wrong", tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_a_folder_named_like_a_model_is_a_folder(place, photos, tmp_path, monkeypatch):
    made = place / "compact"
    reproduce(place, "compact", made, photos)
    [low], [high] = made.glob("low_level-*"), made.glob("high_level-*")
    monkeypatch.chdir(tmp_path)
    for name in ("compact", "rn50"):
        training(
            "export", "--low-level", low, "--high-level", high, "--pristine", made / "pristine",
            "--photographs", made / "photographs", "-o", name, "--name", name, "--recipe", place / "compact.toml",
        )  # fmt: skip
        scores = [float(score) for score in GRepQ.from_pretrained(Path(name), dtype="float32").score(photos)]
        quantiles = load_file(Path(name) / "features.safetensors")["quantiles"]
        np.testing.assert_allclose(quantiles[[0, -1]], [min(scores), max(scores)], atol=1e-5)


def test_both_recipes_say_what_to_expect():
    for recipe in ("compact", "paper"):
        expected = load_recipe(recipe, "expected", ExpectedRecipe)
        line = verdict(recipe, expected, {"zero-shot": 0.6, "50": 0.7}, Path("l.csv"))
        assert f"Recipe {recipe} expects, on {expected.data}: SRCC" in line and "50 labels 0.700 (" in line
