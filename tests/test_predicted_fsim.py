"""FSIM without its reference: what it reads, what it learns, and that the score moves by it and by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grepq_iqa import GRepQ
from grepq_iqa.encoders.predicted_fsim import PREDICTED_FSIM, PredictedFsim, from_state, to_state
from grepq_iqa.errors import WeightsError
from grepq_iqa.training.data.distorted_copies import FAMILIES
from grepq_iqa.training.data.severity_series import KEY_FAMILIES
from grepq_iqa.training.predicted_fsim import (
    CHAINS,
    PICTURES,
    SEVERITIES,
    Read,
    draw_steps,
    fit_predicted_fsim,
    read_series,
    read_unlabeled,
)


def random_one(rng: np.random.Generator) -> PredictedFsim:
    layers = tuple(
        (rng.standard_normal((2, *shape)).astype(np.float32), rng.standard_normal((2, 1, shape[1])).astype(np.float32))
        for shape in ((3, 4), (4, 1))
    )
    mean, scale = rng.standard_normal(3).astype(np.float32), rng.uniform(0.5, 2, 3).astype(np.float32)
    return PredictedFsim(np.array([5, 0, 2]), mean, scale, layers, 1.5, 0.25)


def slow(one: PredictedFsim, vector: np.ndarray) -> float:
    """One vector, one unit at a time."""
    answers = []
    for network in range(2):
        x = [(vector[i] - m) / s for i, m, s in zip(one.inputs, one.mean, one.scale, strict=True)]
        x = [min(max(value, -5), 5) for value in x]
        for index, (weight, bias) in enumerate(one.layers):
            x = [
                sum(v * weight[network, i, j] for i, v in enumerate(x)) + bias[network, 0, j]
                for j in range(weight.shape[2])
            ]
            x = [max(v, 0) for v in x] if index == 0 else x
        answers.append(x[0])
    return float(np.mean(answers))


@given(seed=st.integers(0, 1000), largest=st.sampled_from([1.0, 30.0]))
def test_answer_and_shift_by_hand(seed, largest):
    rng = np.random.default_rng(seed)
    one = random_one(rng)
    features = (largest * rng.standard_normal((4, 7))).astype(np.float32)
    wanted = [slow(one, vector) for vector in features]
    np.testing.assert_allclose(one(features), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.shift(features), 1.5 * (np.array(wanted) - 0.25), rtol=1e-4, atol=1e-3)
    others = features.copy()
    others[:, [1, 3, 4, 6]] += 9
    np.testing.assert_array_equal(one(others), one(features))


def test_a_file_gives_it_back():
    one = random_one(np.random.default_rng(0))
    halved = replace(one, layers=tuple((w.astype(np.float16).astype(np.float32), b) for w, b in one.layers))
    again = from_state(to_state(one))
    features = np.random.default_rng(1).standard_normal((5, 7)).astype(np.float32)
    np.testing.assert_array_equal(again.shift(features), halved.shift(features))
    state = to_state(one)
    with pytest.raises(ValueError, match="do not fit"):
        from_state({**state, "inputs": state["inputs"][:2]})
    with pytest.raises(KeyError):
        from_state({name: value for name, value in state.items() if name != "expected"})


def test_it_learns_ranks_of_copies_and_nothing_about_photographs():
    """Ranks for unlike families, whose inputs mean different things; 0 for photographs, which a third input tells."""
    rng = np.random.default_rng(0)

    def draw(n):
        inputs = np.zeros((n, PICTURES, 4), np.float32)
        loss = np.zeros((n, PICTURES))
        for series in range(n):
            for chain in range(CHAINS):
                family = int(rng.integers(2))  # much of the first costs as much as a little of the second
                for step, amount in enumerate(np.sort(rng.uniform(0, 3, SEVERITIES))):
                    at = 1 + chain * SEVERITIES + step
                    inputs[series, at, family] = amount
                    loss[series, at] = amount * (0.2, 1.0)[family]
            for at in range(1 + CHAINS * SEVERITIES, PICTURES):
                inputs[series, at, :2] = rng.uniform(0, 2, 2)
                loss[series, at] = inputs[series, at, :2] @ [0.2, 1.0]
        return inputs + 0.02 * rng.standard_normal(inputs.shape).astype(np.float32), 1 / (1 + loss.astype(np.float32))

    inputs, fsim = draw(150)
    wild = np.zeros((400, 4), np.float32)
    wild[:, :2], wild[:, 2] = rng.uniform(0, 3, (400, 2)), 2
    wild += 0.02 * rng.standard_normal(wild.shape).astype(np.float32)
    one = fit_predicted_fsim(Read(inputs, fsim, wild), epochs=40, seed=0)
    new, of_new = draw(40)
    found = one.of_inputs(new.reshape(-1, 4))
    assert np.corrcoef(found.argsort().argsort(), of_new.ravel().argsort().argsort())[0, 1] > 0.95
    assert found.max() > 0.3 and found.min() < -0.3
    assert np.abs(one.of_inputs(wild)).mean() < 0.06
    chains = found.reshape(-1, PICTURES)[:, 1 : 1 + CHAINS * SEVERITIES].reshape(-1, CHAINS, SEVERITIES)
    assert (np.diff(chains, axis=2) < 0.01).mean() > 0.97


@given(seed=st.integers(0, 10_000))
def test_what_a_series_is_made_of(seed):
    steps = draw_steps(np.random.default_rng(seed))
    assert len(steps) == PICTURES and steps[0] == []
    chains = [steps[1 + k * SEVERITIES :][:SEVERITIES] for k in range(CHAINS)]
    families = [{name for step in chain for name, _ in step} for chain in chains]
    assert all(len(found) == 1 for found in families)
    assert next(iter(families[0])) in KEY_FAMILIES
    for chain in chains:
        severities = [step[0][1] for step in chain]
        assert severities == sorted(severities) and severities[0] > 0 and severities[-1] <= 5
    for mixture in steps[1 + CHAINS * SEVERITIES :]:
        names = [name for name, _ in mixture]
        assert 2 <= len(set(names)) == len(names) <= 3 and set(names) <= set(FAMILIES)


def contrast_and_size(picture):
    return np.array([picture.std(), picture.shape[0], picture.shape[1]], np.float32)


def test_series_are_a_function_of_their_index(photos):
    paths = list(photos)
    together, similar = read_series(contrast_and_size, paths, range(3), 96, 5)
    alone, of_alone = read_series(contrast_and_size, paths, [2], 96, 5)
    np.testing.assert_array_equal(alone[0], together[2])
    np.testing.assert_array_equal(of_alone[0], similar[2])
    other, _ = read_series(contrast_and_size, paths, [2], 96, 6)
    assert (other != alone).any()
    assert together.shape == (3, PICTURES, 3) and similar.shape == (3, PICTURES)
    np.testing.assert_allclose(similar[:, 0], 1)
    assert (similar[:, 1:] < 1).all()
    chains = similar[:, 1 : 1 + CHAINS * SEVERITIES].reshape(-1, SEVERITIES)
    assert (np.diff(chains, axis=1) < 0.01).mean() > 0.9  # a stronger copy is less like its source


def test_unlabeled_photographs_are_read_whole_and_as_cuts(photos):
    paths = list(photos)
    whole, cut = read_unlabeled(contrast_and_size, [paths[0]] * 2, range(2), 64, 128, 0)
    assert max(whole[1:]) == 128
    assert max(cut[1:]) <= 64


def test_the_score_moves_by_it_along_good_minus_bad(compact, photos):
    """And by nothing else: features stay."""
    parts = compact._components
    features = compact.features(photos)
    moved = compact.projected(features)
    axis = parts.prompts["good"] - parts.prompts["bad"]
    by_hand = parts.projection(features[:, : parts.high_level_dim]) @ (axis / np.linalg.norm(axis))
    by_hand += parts.fine_detail.shift(features[:, parts.encoded_dim :])
    by_hand += [parts.predicted_fsim.weight * (slow_ensemble(parts.predicted_fsim, row)) for row in features]
    np.testing.assert_allclose(moved, by_hand, atol=2e-4)
    assert parts.predicted_fsim.weight > 0


def slow_ensemble(one: PredictedFsim, vector: np.ndarray) -> float:
    z = np.clip((vector[one.inputs].astype(np.float64) - one.mean) / one.scale, -5, 5)
    answers = []
    for network in range(one.layers[0][0].shape[0]):
        x = z
        for index, (weight, bias) in enumerate(one.layers):
            x = x @ weight[network].astype(np.float64) + bias[network, 0]
            x = np.maximum(x, 0) if index < len(one.layers) - 1 else x
        answers.append(x[0])
    return float(np.mean(answers)) - one.expected


def test_a_model_that_lacks_its_file_says_so(tmp_path):
    folder = GRepQ.from_pretrained().save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["predicted_fsim"]
    (folder / PREDICTED_FSIM).unlink()
    with pytest.raises(WeightsError, match=r"has no predicted_fsim\.safetensors"):
        GRepQ.from_pretrained(folder)
    del config["predicted_fsim"]
    (folder / "config.json").write_text(json.dumps(config))
    for of_other_weights in ("ratings.safetensors", "encoders.int8.onnx"):
        (folder / of_other_weights).unlink()
    assert GRepQ.from_pretrained(folder)._components.predicted_fsim is None
