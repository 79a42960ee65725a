"""Recipe `paper` does what the reference implementation does where that can be done (docs/method.md, section 8)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clip import random_clip
from safetensors.torch import load_file, save_file

from grepq_iqa.errors import UsageError
from grepq_iqa.training.data.contrastive_views import ContrastiveViews, as_float
from grepq_iqa.training.data.copy_store import CopyStore
from grepq_iqa.training.data.fragments import fragment_positions, take_fragments
from grepq_iqa.training.data.pictures import read_picture
from grepq_iqa.training.data.prepare import prepare
from grepq_iqa.training.data.render_copies import render_copies
from grepq_iqa.training.high_level.clip_tower import (
    CenterCrops,
    ClipRecipe,
    add_positional_embedding,
    build_clip_encoder,
    checkpoint_tower,
    train_clip_tower,
)
from grepq_iqa.training.losses.qcl import QualityContrastiveLoss
from grepq_iqa.training.low_level import read_low_level, train_low_level
from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe
from grepq_iqa.training.similarity.fsim import fsim_matrix


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    return prepare(map(str, photos), tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    state = random_clip()
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    save_file(state, path)
    return path, state


@pytest.fixture(scope="module")
def paper():
    return load_recipe("paper", "low_level", LowLevelRecipe)


# --- low level ------------------------------------------------------------------------------------------------------


def test_the_recipe_is_the_papers(paper):
    assert paper.fixed_copies and paper.equal_cells and paper.separate_views and paper.short_batches
    assert load_recipe("paper", "high_level", ClipRecipe).positional_embedding


@settings(max_examples=60)
@given(height=st.integers(224, 700), width=st.integers(224, 700), seed=st.integers(0, 1 << 30))
def test_fragments_are_cut_as_the_reference_cuts_them(height, width, seed):
    """FAST-VQA: cells begin at i (size // 7); offsets are torch.randint(cell - 32), so cell - 32 is never drawn."""
    corners = fragment_positions(height, width, 7, 32, np.random.default_rng(seed), equal_cells=True)
    for axis, size in enumerate((height, width)):
        cell = size // 7
        starts = np.minimum(np.arange(7) * cell, size - 32)
        offsets = corners[..., axis] - starts.reshape((7, 1) if axis == 0 else (1, 7))
        assert offsets.min() >= 0 and (offsets.max() < cell - 32 if cell > 32 else offsets.max() == 0)


def test_every_offset_of_the_reference_can_be_drawn():
    rng = np.random.default_rng(0)
    drawn = np.concatenate([fragment_positions(230, 300, 7, 32, rng, equal_cells=True)[0, :, 1] for _ in range(400)])
    assert {int(x) - 42 * i for x, i in zip(drawn, [*range(7)] * 400, strict=True)} == set(range(10))  # 300 // 7 = 42


def test_copies_are_8_bit_bounded_and_the_same_every_epoch(photos, prepared, paper, tmp_path):
    recipe = replace(paper, copies_max_side=300)
    views = ContrastiveViews(prepared.photographs, recipe, 8, tmp_path)
    photograph = prepared.photographs[1]
    copies = views.copies(photograph, np.random.default_rng(5))
    assert copies.dtype == torch.uint8 and max(copies.shape[-2:]) == 300 and len(copies) == 9
    again = ContrastiveViews(prepared.photographs, recipe, 8, tmp_path).copies(photograph, np.random.default_rng(6))
    assert torch.equal(copies, again)

    rng = np.random.default_rng((recipe.seed, 2, int(photograph.sha256, 16)))
    picture = read_picture(photos[sorted(map(str, photos)).index(photograph.path)], max_side=300)
    rendered = np.stack(views.make_copies(picture, rng)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(copies.numpy(), np.round(rendered * 255).astype(np.uint8))
    torch.testing.assert_close(views.similarity(photograph, copies), fsim_matrix(as_float(copies)))
    item = views[0]
    assert item["first"].dtype == torch.uint8 and item["first"].shape == (9, 3, 224, 224)


def test_what_was_rendered_is_only_cut(prepared, paper, tmp_path, monkeypatch):
    recipe = replace(paper, copies_max_side=300)
    render_copies(prepared, recipe, tmp_path, workers=1)
    before = ContrastiveViews(prepared.photographs, recipe, 8)[3]  # nothing kept: rendered for the item

    def refuse(*_):
        raise AssertionError("rendered again")

    monkeypatch.setattr(ContrastiveViews, "fixed_copies", refuse)
    monkeypatch.setattr("grepq_iqa.training.data.contrastive_views.fsim_matrix", refuse)
    item = ContrastiveViews(prepared.photographs, recipe, 8, tmp_path)[3]
    assert item.keys() == before.keys()
    for name, tensor in item.items():
        torch.testing.assert_close(tensor, before[name])


def test_copies_that_do_not_fit_the_disk_are_refused_before_any_is_made(prepared, paper, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UsageError, match=r"need 0\.0 GB .*copies_max_side"):
        render_copies(prepared, paper, tmp_path, workers=1)
    assert not list(CopyStore(tmp_path, paper).folder.iterdir())


def test_each_view_is_normalized_by_itself(prepared, paper, tmp_path):
    tiny = replace(paper, crop=64, grid=1, distortions_per_image=1, batch_images=2, epochs=1)
    counted = {}
    for separate in (True, False):
        recipe = replace(tiny, separate_views=separate)
        train_low_level(prepared, recipe, tmp_path / str(separate), workers=0)
        encoder = read_low_level(tmp_path / str(separate)).encoder
        state = load_file(tmp_path / str(separate) / "checkpoint" / "model.safetensors")
        [name] = [name for name in state if name.endswith("resnet.bn1.num_batches_tracked")] or [
            next(name for name in state if name.endswith("bn1.num_batches_tracked"))
        ]
        counted[separate] = int(state[name])
        assert encoder is not None
    assert counted == {True: 4, False: 2}  # two steps

    # the first loss, by its definition: one forward a view, in training mode
    from grepq_iqa.encoders.low_level import LowLevelEncoder

    torch.manual_seed(tiny.seed)
    start = LowLevelEncoder().to(memory_format=torch.channels_last).train()
    views = ContrastiveViews(prepared.photographs, tiny, 4)
    items = [views[0], views[1]]
    features = [
        start(torch.cat([as_float(item[name]) for item in items])).view(2, 3, -1) for name in ("first", "second")
    ]
    expected = QualityContrastiveLoss(tiny.temperature)(*features, torch.stack([item["similarity"] for item in items]))
    first = json.loads((tmp_path / "True" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_taking_fragments_equals_slicing(photos):
    picture = torch.from_numpy(read_picture(photos[0]).transpose(2, 0, 1).copy())[None]
    corners = fragment_positions(*picture.shape[-2:], 3, 32, np.random.default_rng(1))
    taken = take_fragments(picture, corners, 32)
    for row in range(3):
        for column in range(3):
            y, x = corners[row, column]
            cell = taken[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            assert torch.equal(cell, picture[..., y : y + 32, x : x + 32])


# --- high level -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(224, 232))
def test_center_crops_are_torchvisions(size, tmp_path):
    from PIL import Image
    from torchvision.transforms.functional import center_crop

    pixels = np.random.default_rng(0).integers(0, 256, (size, size + 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ours = CenterCrops([tmp_path / "a.png"], 224, 1, 1, 0)[0]["pictures"]
    theirs = center_crop(torch.from_numpy(pixels).permute(2, 0, 1), [224, 224]).float() / 255
    torch.testing.assert_close(ours, theirs)


def test_the_positional_embedding_is_clips(clip):
    from open_clip.modified_resnet import ModifiedResNet

    _, state = clip
    whole = ModifiedResNet([3, 4, 6, 3], 1024, 32, 224, 64)
    whole.load_state_dict({k.removeprefix("visual."): v.float() for k, v in state.items() if k.startswith("visual.")})
    encoder = build_clip_encoder("RN50", state)
    pictures = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        without = encoder.eval()(pictures).embedding
        add_positional_embedding(encoder, state, 224)
        with_it = encoder(pictures).embedding
        expected = whole.eval()(encoder.normalize(pictures))
    torch.testing.assert_close(with_it, expected, atol=1e-4, rtol=1e-4)
    assert (without - expected).abs().max() > 100 * (with_it - expected).abs().max()
    with pytest.raises(UsageError, match="crops of 224 pixels, not of 160"):
        add_positional_embedding(encoder, state, 160)


def test_the_embedding_is_trained_and_taken_out_and_the_first_rate_is_zero(clip, prepared, tmp_path):
    path, state = clip
    recipe = load_recipe(
        "paper", "high_level", ClipRecipe, batch_size=4, extremes=2, steps=2, learning_rate=1e-3, warmup_epochs=2.0
    )  # fmt: skip
    train_clip_tower(prepared, recipe, path, tmp_path, workers=0, save_every=1)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == [5e-4, 1e-3]  # of the step that follows: the first had rate 0
    trained = load_file(tmp_path / "tower.safetensors")
    assert not any("positional" in name for name in trained)
    checkpoint = load_file(tmp_path / "checkpoint" / "model.safetensors")
    [name] = [name for name in checkpoint if name.endswith("positional_embedding")]
    start = state["visual.attnpool.positional_embedding"].float()
    assert 0 < (checkpoint[name] - start).abs().max() < 2e-3  # one step of Adam moves by its rate, two by two


def test_checkpointed_activations_change_nothing(clip):
    _, state = clip
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    results = []
    for checkpointed in (False, True):
        encoder = build_clip_encoder("RN50", state).train()
        if checkpointed:
            checkpoint_tower(encoder)
        saved = 0

        def pack(tensor):
            nonlocal saved
            saved += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = encoder(pictures).embedding.square().mean()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
        results.append((encoder.state_dict(), gradients, saved))
    (plain, plain_gradients, much), (state_after, gradients, little) = results
    assert plain.keys() == state_after.keys() and little < much / 2
    for name, tensor in plain.items():  # running statistics included: they move once
        torch.testing.assert_close(state_after[name], tensor, msg=name)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)
