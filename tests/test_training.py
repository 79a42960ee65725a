"""Training parts on real crops with tiny settings: distortions, fragments, FSIM, the loop and its resumption."""

from __future__ import annotations

import hashlib
import itertools
import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of
from grepq_iqa.training import loop, low_level
from grepq_iqa.training.data.captions import PROMPT_GOOD, caption_of, distortion_strength
from grepq_iqa.training.data.distorted_copies import COPIES, DistortedCopies
from grepq_iqa.training.data.distortions import DISTORTIONS, SEVERITIES, compose, distort
from grepq_iqa.training.data.fragments import fragment_positions, take_fragments
from grepq_iqa.training.data.pictures import read_picture
from grepq_iqa.training.data.prepare import prepare, read_hashes, read_index
from grepq_iqa.training.data.pristine_tiles import colorfulness, select_tiles, sharpness
from grepq_iqa.training.data.severity_series import make_severity_series
from grepq_iqa.training.low_level import read_low_level, train_low_level
from grepq_iqa.training.recipe import LowLevelRecipe, ScoringRecipe, load_recipe
from grepq_iqa.training.run_record import describe_data
from grepq_iqa.training.similarity.dists import dists
from grepq_iqa.training.similarity.fsim import fsim_matrix


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    return prepare(map(str, photos), tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def osprey(photos):
    return read_picture(photos[1])[100:260, 330:490]


# --- distortions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DISTORTIONS))
def test_distortions_grow_with_severity(osprey, name):
    errors = []
    for severity in SEVERITIES:
        distorted = distort(osprey, name, severity, np.random.default_rng(0))
        assert distorted.dtype == np.float32 and distorted.shape == osprey.shape
        assert distorted.min() >= 0 and distorted.max() <= 1
        errors.append(float(((distorted - osprey) ** 2).mean()))
    assert errors[0] > 0 and all(a < b for a, b in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("name", sorted(DISTORTIONS))
def test_equal_seeds_give_equal_distortions_and_inputs_stay(osprey, name):
    before = osprey.copy()
    first, second = (distort(osprey, name, 3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(osprey, before)


def test_compositions_apply_in_order_and_wrong_severities_are_refused(osprey):
    rng = np.random.default_rng
    both = compose(osprey, [("gaussian_blur", 3), ("jpeg", 2)], rng(0))
    np.testing.assert_array_equal(both, distort(distort(osprey, "gaussian_blur", 3, rng(0)), "jpeg", 2, rng(0)))
    for wrong in (0, 6):
        with pytest.raises(ValueError, match="at most 5"):
            distort(osprey, "jpeg", wrong, rng(0))


@pytest.mark.parametrize("name", sorted(set(DISTORTIONS) - {"rescale", "smear"}))  # those two go by whole pixels
def test_a_distortion_between_two_severities_lies_between(osprey, name):
    errors = []
    for severity in (0.4, 1, 1.5, 2):
        distorted = distort(osprey, name, severity, np.random.default_rng(0))
        errors.append(float(((distorted - osprey) ** 2).mean()))
    assert all(a < b for a, b in itertools.pairwise(errors)), errors


# --- distorted copies, whose distortions a head has to tell ----------------------------------------------------------


def test_copies_say_what_was_done_to_them(photos):
    data = DistortedCopies(list(photos[:2]), list(photos[2:]), crop=64, length=30, seed=3)
    assert len(data) == 30
    for index in range(8):
        item, again = data[index], data[index]
        assert all(torch.equal(item[key], again[key]) for key in item)
        pictures, severity = item["pictures"], item["severity"]
        assert pictures.dtype == torch.uint8 and pictures.shape == (COPIES, 3, 64, 64)
        assert bool(item["clean"]) == (index % 2 == 0)
        counts = (severity > 0).sum(1)
        assert counts[0] == 0 and (counts[1:5] == 1).all() and 2 <= counts[5] <= 4
        assert severity.max() <= 1 and severity[severity > 0].min() >= 0.2 / 5
        for mild, worse in ((1, 2), (3, 4)):
            assert (severity[mild] > 0).equal(severity[worse] > 0) and severity[mild].sum() < severity[worse].sum()
            error = [((pictures[v].float() - pictures[0].float()) ** 2).mean() for v in (mild, worse)]
            assert error[0] <= error[1]
    assert not torch.equal(data[0]["pictures"], data[2]["pictures"])


def test_dists_equals_a_loop_over_channels():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 3, 4, 7, 5, generator=generator), torch.rand(2, 3, 6, 3, 3, generator=generator) * 8]
    found = dists(maps)
    for one, copy in itertools.product(range(2), range(3)):
        layers = []
        for layer in maps:
            alike = []
            for channel in range(layer.shape[2]):
                x = layer[one, 0, channel].double().numpy().ravel()
                y = layer[one, copy, channel].double().numpy().ravel()
                c = 0.01 * x.var() + 1e-6
                means = (2 * x.mean() * y.mean() + c) / (x.mean() ** 2 + y.mean() ** 2 + c)
                together = (2 * np.cov(x, y, bias=True)[0, 1] + c) / (x.var() + y.var() + c)
                alike.append((means + together) / 2)
            layers.append(1 - np.mean(alike))
        assert found[one, copy].item() == pytest.approx(np.mean(layers), abs=1e-5)
    torch.testing.assert_close(found[:, 0], torch.zeros(2), atol=1e-6, rtol=0)


def test_strength_and_captions():
    assert distortion_strength([]) == 0 and caption_of([]) == PROMPT_GOOD
    values = [distortion_strength([("jpeg", s)]) for s in SEVERITIES]
    assert values == sorted(values) and values[0] > 0 and values[-1] < 1
    assert distortion_strength([("jpeg", 3), ("haze", 2)]) > distortion_strength([("jpeg", 3)])
    assert caption_of([("haze", 1), ("motion_blur", 4)]) == "A bad photo with strong motion blur."


# --- fragments ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(32, 400), st.integers(32, 400), st.integers(1, 7), st.integers(0, 99))
def test_fragments_stay_inside_and_in_their_cells(height, width, grid, seed):
    corners = fragment_positions(height, width, grid, 32, np.random.default_rng(seed))
    assert corners.shape == (grid, grid, 2)
    assert (corners >= 0).all() and (corners[..., 0] <= height - 32).all() and (corners[..., 1] <= width - 32).all()
    if height // grid >= 33:
        edges = np.linspace(0, height, grid + 1).astype(int)
        for row in range(grid):
            assert (corners[row, :, 0] >= edges[row]).all() and (corners[row, :, 0] + 32 <= edges[row + 1]).all()


def test_fragments_take_the_same_places_of_every_copy():
    copies = torch.rand(3, 3, 70, 80)
    corners = fragment_positions(70, 80, 2, 32, np.random.default_rng(0))
    out = take_fragments(copies, corners, 32)
    assert out.shape == (3, 3, 64, 64)
    for r in range(2):
        for c in range(2):
            y, x = corners[r, c]
            got = out[:, :, r * 32 : r * 32 + 32, c * 32 : c * 32 + 32]
            torch.testing.assert_close(got, copies[:, :, y : y + 32, x : x + 32])
    with pytest.raises(ValueError, match="no room"):
        fragment_positions(20, 80, 2, 32, np.random.default_rng(0))


# --- FSIM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 96), (97, 130)])
def test_fsim_equals_piq(osprey, size):
    piq = needs("piq")
    names = ("gaussian_blur", "white_noise", "jpeg", "color_cast")
    copies = [osprey, *(distort(osprey, n, 3, np.random.default_rng(0)) for n in names)]
    x = torch.from_numpy(np.stack(copies)).permute(0, 3, 1, 2)[:, :, : size[0], : size[1]].contiguous()
    ours = fsim_matrix(x)
    for i in range(5):
        assert ours[i, i] == 1
        for j in range(i + 1, 5):
            theirs = piq.fsim(x[i : i + 1], x[j : j + 1], data_range=1.0).item()
            assert ours[i, j].item() == pytest.approx(theirs, abs=1e-4) and ours[i, j] == ours[j, i]
    with pytest.raises(ValueError, match="shape"):
        fsim_matrix(torch.rand(3, 1, 8, 8))


# --- pristine tiles -------------------------------------------------------------------------------------------------


def test_tiles_are_chosen_by_sharpness_then_color(osprey):
    image = torch.zeros(3, 192, 288)
    noise = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    image[:, :96, :96] = noise  # sharp and colorful
    image[:, :96, 96:192] = noise.mean(0, keepdim=True)  # gray
    image[:, 96:, 192:] = noise * 0.1  # faint
    assert select_tiles(image) == [(0, 0)]
    assert select_tiles(torch.rand(3, 50, 300)) == []
    tile = torch.from_numpy(osprey).permute(2, 0, 1)[None]
    blurred = torch.from_numpy(distort(osprey, "gaussian_blur", 3, np.random.default_rng(0))).permute(2, 0, 1)[None]
    gray = tile.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert sharpness(tile) > sharpness(blurred) and colorfulness(tile) > colorfulness(gray)


# --- series, preparation, recipes ----------------------------------------------------------------------------------


def test_series_are_functions_of_their_index(photos):
    first = make_severity_series(6, photos, photos, 96, seed=0)
    again = make_severity_series(6, photos, photos, 96, seed=0)
    np.testing.assert_array_equal(first.pictures, again.pictures)
    assert first.steps == again.steps and first.pictures.shape == (9, 96, 96, 3) and first.clean_start
    assert first.steps[0] == [] and [s[0][1] for s in first.steps[1:7]] == [0.4, 1, 2, 3, 4, 5]
    assert not make_severity_series(7, photos, photos, 96, seed=0).clean_start


def test_prepare_lists_good_photographs_and_reports_bad_ones(photos, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for photo in photos:
        (source / photo.name).write_bytes(photo.read_bytes())
    (source / "twin.jpg").write_bytes(photos[0].read_bytes())
    (source / "broken.jpg").write_bytes(photos[0].read_bytes()[:500])
    prepared = prepare([str(source)], tmp_path / "set")
    assert len(prepared.photographs) == len(photos) and list(prepared.rejected) == [str(source / "broken.jpg")]
    assert read_index(tmp_path / "set") == prepared == prepare([str(source)], tmp_path / "set")
    with pytest.raises(UsageError, match="prepare"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text('{"photographs": [{"path": "a"}]}')
    with pytest.raises(UsageError, match=r"is broken .* prepare again"):
        read_index(tmp_path)


def test_prepare_keeps_name_and_license_until_others_are_given(photos, tmp_path):
    assert (prepare([str(photos[0])], tmp_path).name, read_index(tmp_path).license) == ("photographs", "")
    prepare([str(photos[0])], tmp_path, name="birds", license="CC0-1.0")
    again = prepare(map(str, photos[:2]), tmp_path)
    assert (again.name, again.license) == ("birds", "CC0-1.0") and read_index(tmp_path) == again
    assert prepare(map(str, photos[:2]), tmp_path, license="").license == ""


def test_photographs_are_held_out_by_content_and_the_provenance_says_how_many(photos, tmp_path):
    held_out = tmp_path / "held_out.txt"
    held_out.write_text(sha256_of(photos[1]) + "\n" + "0" * 64 + "\n")
    copy = tmp_path / "another name.jpg"
    copy.write_bytes(photos[1].read_bytes())
    prepared = prepare([str(photos[0]), str(copy)], tmp_path / "set", held_out=read_hashes(held_out))
    assert prepared.paths == [photos[0]] and prepared.held_out == 1 and not prepared.rejected
    assert read_index(tmp_path / "set") == prepared
    assert describe_data(pristine=prepared)[0]["held_out"] == 1
    assert prepare([str(photos[0]), str(copy)], tmp_path / "set").held_out == 0  # asked for anew each time
    held_out.write_text("photo.jpg\n")
    with pytest.raises(UsageError, match=r"64 hex digits a line, not 'photo.jpg'"):
        read_hashes(held_out)
    with pytest.raises(UsageError, match="cannot be read"):
        read_hashes(tmp_path / "nowhere.txt")


def test_the_hash_of_a_list_is_over_its_contents_in_order(prepared):
    files = [Path(photograph.path) for photograph in prepared.photographs]
    assert files == sorted(files) == prepared.paths
    contents = [hashlib.sha256(file.read_bytes()) for file in files]
    assert [photograph.sha256 for photograph in prepared.photographs] == [one.hexdigest() for one in contents]
    assert prepared.sha256 == hashlib.sha256(b"".join(one.digest() for one in contents)).hexdigest()


def test_recipes_name_wrong_settings(tmp_path):
    paper = load_recipe("paper", "low_level", LowLevelRecipe)
    assert (paper.grid, paper.cell, paper.temperature, paper.batch_images, paper.epochs) == (7, 32, 0.5, 8, 15)
    assert load_recipe("compact", "low_level", LowLevelRecipe, steps=7).steps == 7
    with pytest.raises(UsageError, match="compact, paper"):
        load_recipe("papyrus", "low_level", LowLevelRecipe)
    (tmp_path / "mine.toml").write_text("[low_level]\ncolour = 3\n")
    with pytest.raises(UsageError, match="colour"):
        load_recipe(str(tmp_path / "mine.toml"), "low_level", LowLevelRecipe)
    for decay in (-0.1, 1.0, 1.5):
        with pytest.raises(UsageError, match="averaging"):
            load_recipe("compact", "low_level", LowLevelRecipe, averaging=decay)
    with pytest.raises(UsageError, match="'mode' is none of mean, median"):
        load_recipe("compact", "scoring", ScoringRecipe, pooling="mode")


# --- the loop -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_recipe():
    return load_recipe(
        "compact", "low_level", LowLevelRecipe, crop=64, grid=1, distortions_per_image=1, batch_images=1, steps=4,
        warmup_steps=1, averaging=0.5,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short_runs_average(monkeypatch):
    monkeypatch.setattr(low_level, "LEAST_SPANS", 1)


class Killed(BaseException):
    """A kill in the middle of a run."""


@contextmanager
def killed_at(step: int):
    written = loop._Metrics.add

    def die(self, row):
        written(self, row)
        if row["step"] == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop._Metrics, "add", die)
        yield


def weights_saved(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """A list that gets the weights of every checkpoint from now on, those that were not averaged."""
    seen, saved = [], loop._save

    def save(accelerator, settings, step, average):
        saved(accelerator, settings, step, average)
        seen.append(load_file(settings.out / "checkpoint" / "model.safetensors"))

    monkeypatch.setattr(loop, "_save", save)
    return seen


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_runs_and_a_resumed_run_have_one_loss_curve(prepared, tiny_recipe, tmp_path):
    whole = train_low_level(prepared, tiny_recipe, tmp_path / "whole", workers=0, save_every=2)
    train_low_level(prepared, tiny_recipe, tmp_path / "again", workers=0, save_every=2)
    assert losses(tmp_path / "whole") == losses(tmp_path / "again") and len(losses(tmp_path / "whole")) == 4

    with killed_at(3):
        train_low_level(prepared, tiny_recipe, tmp_path / "cut", workers=0, save_every=2)
    resumed = train_low_level(prepared, tiny_recipe, tmp_path / "cut", workers=0, save_every=2, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    run = read_low_level(tmp_path / "cut")
    assert run.record["steps"] == {"low_level": 4}
    for a, b in zip(whole.state_dict().values(), run.encoder.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_weights_left_are_a_moving_average(prepared, tiny_recipe, tmp_path, decay, monkeypatch):
    seen = weights_saved(monkeypatch)
    recipe = replace(tiny_recipe, averaging=decay)
    encoder = train_low_level(prepared, recipe, tmp_path, workers=0, save_every=1)
    assert len(seen) == 4
    decay = min(decay, 0.75)  # whose span is the whole run
    for name, tensor in encoder.state_dict().items():
        expected = seen[0][name].double()
        for later in seen[1:]:
            expected = decay * expected + (1 - decay) * later[name].double()
        if tensor.is_floating_point():  # else a count of batches
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-7)
    last = seen[-1]["trunk.bn1.running_var"]
    assert torch.equal(encoder.state_dict()["trunk.bn1.running_var"], last) == (decay == 0)


@pytest.mark.parametrize("changed", ["settings", "photographs", "mixed_precision"])
def test_a_checkpoint_of_another_run_is_not_gone_on_from(photos, prepared, tiny_recipe, tmp_path, changed):
    out = tmp_path / "run"
    train_low_level(prepared, tiny_recipe, out, workers=0, save_every=2)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    recipe, data, precision = tiny_recipe, prepared, "no"
    if changed == "settings":
        recipe = replace(tiny_recipe, learning_rate=tiny_recipe.learning_rate / 2)
    elif changed == "photographs":
        data = prepare(map(str, photos[:3]), tmp_path / "fewer")
    else:
        precision = "bf16"
    with pytest.raises(UsageError) as caught:
        train_low_level(data, recipe, out, workers=0, resume=True, mixed_precision=precision)
    message = str(caught.value)
    assert f"({changed} differ)" in message and str(out) in message and "--resume" in message and "\n" not in message
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    # what was trained is still what its record tells of, and the run that wrote it still goes on
    assert read_low_level(out).record["settings"] == {"low_level": asdict(tiny_recipe)}
    train_low_level(prepared, tiny_recipe, out, workers=0, resume=True)
    assert losses(out) == [json.loads(line)["loss"] for line in before[out / "metrics.jsonl"].splitlines()]


def test_the_record_of_a_new_run_is_not_told_of_an_old_checkpoint(prepared, tiny_recipe, tmp_path):
    train_low_level(prepared, tiny_recipe, tmp_path, workers=0)
    with pytest.raises(RuntimeError, match="stopped"), pytest.MonkeyPatch.context() as patch:

        def stop(*arguments, **options):
            raise RuntimeError("stopped before its first checkpoint")

        patch.setattr(low_level, "run", stop)
        train_low_level(prepared, replace(tiny_recipe, temperature=0.3), tmp_path, workers=0)
    with pytest.raises(UsageError, match="earlier run"):
        read_low_level(tmp_path)
    train_low_level(prepared, replace(tiny_recipe, temperature=0.3), tmp_path, workers=0)
    assert read_low_level(tmp_path).record["settings"]["low_level"]["temperature"] == 0.3


def test_a_checkpoint_of_version_0_1_is_gone_on_from(prepared, tiny_recipe, tmp_path, monkeypatch):
    seen = weights_saved(monkeypatch)
    with killed_at(3):
        train_low_level(prepared, tiny_recipe, tmp_path, workers=0, save_every=2)
    (tmp_path / "checkpoint" / "step.json").write_text('{"step": 2}')
    (tmp_path / "checkpoint" / loop.AVERAGE).unlink()
    (tmp_path / "run.json").unlink()
    with pytest.raises(UsageError, match=r"no run\.json.*--resume"):
        read_low_level(tmp_path)
    train_low_level(prepared, tiny_recipe, tmp_path, workers=0, save_every=1, resume=True)
    assert len(seen) == 3  # after steps 2, 3 and 4: the average begins with the third
    for name, tensor in read_low_level(tmp_path).encoder.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (seen[1][name] + seen[2][name]) / 2)


def test_an_average_that_another_run_left_is_not_taken(prepared, tiny_recipe, tmp_path):
    with pytest.raises(RuntimeError, match="full"), pytest.MonkeyPatch.context() as patch:

        def full(*arguments, **options):
            raise RuntimeError("the disk is full")

        patch.setattr(loop.Path, "write_text", lambda path, *rest, **more: full() if path.name == "step.json" else None)
        train_low_level(prepared, tiny_recipe, tmp_path, workers=0)
    assert (tmp_path / "checkpoint.new" / loop.AVERAGE).exists()
    train_low_level(prepared, replace(tiny_recipe, averaging=0.0), tmp_path, workers=0)
    assert not (tmp_path / "checkpoint" / loop.AVERAGE).exists()


@pytest.mark.parametrize(("steps", "decay"), [(8000, 0.999), (500, 0.984), (10, 0.2), (5, 0.0)])
def test_the_average_of_a_short_run_is_shorter(tiny_recipe, steps, decay, monkeypatch):
    monkeypatch.undo()
    assert low_level.averaging_of(replace(tiny_recipe, averaging=0.999), steps) == pytest.approx(decay)
    assert decay**steps < 1e-3  # of the first weights
