"""Reasons and maps: measures against slow versions, sentences on real pictures, the network's file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

from grepq_iqa import Explanation, GRepQ, Reason
from grepq_iqa.data.images import load_image
from grepq_iqa.data.traces import immerkaer
from grepq_iqa.encoders.perceptron import perceptron
from grepq_iqa.errors import ImageError, UsageError, WeightsError
from grepq_iqa.explain import overlay
from grepq_iqa.explain.coloring import magma
from grepq_iqa.explain.explanation import decode_views, explain_views
from grepq_iqa.explain.measures import LUMA, MEASURES, measure
from grepq_iqa.explain.network import FILE, GROUPS, OUTPUTS, load_network
from grepq_iqa.explain.quality_map import MARKED, quality_map, shared
from grepq_iqa.explain.scales import LEVELS, NAMES, amount_of
from grepq_iqa.explain.sentences import NOTHING, describe, summary
from grepq_iqa.explain.views import SCREEN
from grepq_iqa.results import Score
from grepq_iqa.training.data.distortions import DISTORTIONS, distort
from grepq_iqa.training.reasons import make_item, severities_of
from grepq_iqa.training.reasons_fit import FALSE_ALARMS, first_thresholds


def picture_of(path):
    return np.ascontiguousarray(load_image(path).permute(1, 2, 0).numpy())


def as_image(picture):
    return Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def clean(photos):
    return picture_of(next(path for path in photos if path.stem == "osprey"))


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def explained(tiny, photos):
    return {path.stem: tiny.explain(path) for path in photos}


class TestMeasures:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 130), st.integers(1, 130), st.sampled_from(["flat", "noise", "ramp", "black", "white"]))
    def test_are_finite_for_any_picture(self, height, width, content):
        rng = np.random.default_rng(height * 131 + width)
        picture = {
            "flat": np.full((height, width, 3), 0.4),
            "noise": rng.random((height, width, 3)),
            "ramp": np.broadcast_to(np.linspace(0, 1, width)[None, :, None], (height, width, 3)),
            "black": np.zeros((height, width, 3)),
            "white": np.ones((height, width, 3)),
        }[content].astype(np.float32)
        found = measure(picture)
        assert found.shape == (len(MEASURES),) and found.dtype == np.float32 and np.isfinite(found).all()
        map_ = quality_map(picture)
        assert map_.shape == (height, width) and map_.min() >= 0 and map_.max() <= 1

    def test_immerkaer_is_the_published_mask(self):
        luma = np.random.default_rng(0).random((9, 12)).astype(np.float32) * 255
        mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
        slow = [[(luma[y : y + 3, x : x + 3] * mask).sum() for x in range(10)] for y in range(7)]
        np.testing.assert_allclose(immerkaer(luma), slow, atol=1e-3)

    @pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
    def test_noise_is_in_levels(self, sigma):
        ramp = np.linspace(60, 190, 300)[:, None, None] + np.zeros((1, 300, 3))
        noisy = ramp + sigma * np.random.default_rng(1).standard_normal((300, 300, 1))
        found = dict(zip(MEASURES, measure((noisy / 255).astype(np.float32)), strict=True))
        assert 10 ** found["noise_flat"] == pytest.approx(sigma, rel=0.12)

    @pytest.mark.parametrize("quality", [20, 40, 60, 75])
    @pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
    def test_jpeg_quality_is_read_from_pixels_on_any_grid(self, clean, quality, corner):
        buffer = io.BytesIO()
        small = as_image(clean).resize((480, 270), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=quality)
        cropped = picture_of(buffer.getvalue())[corner[0] :, corner[1] :]
        found = dict(zip(MEASURES, measure(cropped), strict=True))
        expected = 50 / quality if quality < 50 else (200 - 2 * quality) / 100  # libjpeg's scale of its table
        assert 2 ** found["quantization"] == pytest.approx(expected, rel=0.15)
        untouched = dict(zip(MEASURES, measure(picture_of(small)), strict=True))
        assert found["quantization_strength"] > 0.4 > untouched["quantization_strength"]

    def test_interpolation_leaves_a_period(self, clean):
        small = as_image(clean).resize((256, 144), Image.Resampling.LANCZOS)
        enlarged = picture_of(small.resize((768, 432), Image.Resampling.BICUBIC))
        found = dict(zip(MEASURES, measure(enlarged), strict=True))
        assert found["period_frequency"] == pytest.approx(1 / 3, abs=0.01) and found["period_rows"] > 2

    def test_edges_widen_with_blur_and_overshoot_with_sharpening(self, clean):
        rng = np.random.default_rng(0)
        names = ("edge_width", "overshoot")
        of = lambda x: dict(zip(MEASURES, measure(x), strict=True))  # noqa: E731
        blurred, sharpened = (of(distort(clean, name, 4, rng)) for name in ("gaussian_blur", "oversharpening"))
        plain = of(clean)
        assert blurred[names[0]] > plain[names[0]] and sharpened[names[1]] > plain[names[1]] + 0.1


class TestNetwork:
    def test_perceptron_by_loops(self):
        rng = np.random.default_rng(0)
        layers = [
            (rng.standard_normal((2, a, b)).astype(np.float32), rng.standard_normal((2, 1, b)).astype(np.float32))
            for a, b in ((4, 3), (3, 2))
        ]
        x = rng.standard_normal((5, 4)).astype(np.float32)
        slow = np.zeros((5, 2))
        for network in range(2):
            for row in range(5):
                hidden = [
                    max(
                        0.0,
                        sum(x[row, i] * layers[0][0][network, i, j] for i in range(4)) + layers[0][1][network, 0, j],
                    )
                    for j in range(3)
                ]
                for k in range(2):
                    total = sum(hidden[j] * layers[1][0][network, j, k] for j in range(3))
                    slow[row, k] += (total + layers[1][1][network, 0, k]) / 2
        np.testing.assert_allclose(perceptron(tuple(layers), x), slow, rtol=1e-4, atol=1e-5)

    def test_scales_are_those_of_the_distortions(self):
        of_registry = {
            "sharpness": DISTORTIONS["gaussian_blur"].levels,
            "noise": [255 * level for level in DISTORTIONS["white_noise"].levels],
            "compression": DISTORTIONS["jpeg"].levels,
            "dark": [-np.log2(gain) for gain in DISTORTIONS["underexposure"].levels],
            "bright": [np.log2(gain) for gain in DISTORTIONS["overexposure"].levels],
            "contrast": [100 * factor for factor in DISTORTIONS["low_contrast"].levels],
            "color_cast": [100 * strength for strength in DISTORTIONS["color_cast"].levels],
            "dull": [100 * factor for factor in DISTORTIONS["desaturation"].levels],
            "garish": [100 * factor for factor in DISTORTIONS["oversaturation"].levels],
            "over_sharpening": [100 * amount for amount in DISTORTIONS["oversharpening"].levels],
            "upscaling": DISTORTIONS["rescale"].levels,
        }
        assert set(of_registry) == set(LEVELS) == set(GROUPS)
        for group, levels in of_registry.items():
            assert [amount_of(group, severity) for severity in range(6)] == pytest.approx(list(levels), abs=0.06)
        assert sorted(family for members in GROUPS.values() for family in members) == sorted(DISTORTIONS)

    def test_what_is_named(self):
        network = load_network()
        none = dict.fromkeys(GROUPS, 0.0)
        assert network.named(none) == []
        strong = none | {"noise": 4.0}
        assert network.named(strong) == ["noise"]
        between = (network.further["compression"] + network.first["compression"]) / 2
        assert network.named(none | {"compression": between}) == []
        assert network.named(strong | {"compression": between}) == ["noise", "compression"]
        percentiles = [network.percentile("noise", severity) for severity in (0, 1, 2, 5)]
        assert percentiles == sorted(percentiles) and percentiles[-1] == 100

    def test_a_file_for_other_measures_or_damaged_is_refused(self, tmp_path):
        state = load_file(FILE)
        save_file(state, tmp_path / "other.safetensors", {"measures": "[]", "outputs": "[]"})
        (tmp_path / "cut.safetensors").write_bytes(FILE.read_bytes()[:1000])
        for name, words in (("other", "other measures"), ("cut", "not a readable"), ("gone", "not a readable")):
            with pytest.raises(WeightsError, match=words):
                load_network(tmp_path / f"{name}.safetensors")

    def test_thresholds_keep_to_the_allowed_false_alarms(self):
        rng = np.random.default_rng(0)
        truth = np.zeros((1000, len(GROUPS)), np.float32)
        truth[np.arange(500, 1000), rng.integers(0, len(GROUPS), 500)] = 4
        found = truth + rng.standard_normal(truth.shape).astype(np.float32)
        thresholds = first_thresholds(found, truth)
        alarms = (found[:500] > thresholds).any(1).mean()
        assert FALSE_ALARMS / 2 < alarms <= FALSE_ALARMS
        detected = [(found[truth[:, g] == 4, g] > thresholds[g]).mean() for g in range(len(GROUPS))]
        assert min(detected) > 0.8


class TestTraining:
    def test_items_repeat_and_say_what_was_done(self, photos):
        first, steps = make_item(photos, 7, seed=3)
        again, same = make_item(photos, 7, seed=3)
        assert (first == again).all() and steps == same
        severities = dict(zip(OUTPUTS, severities_of([("jpeg", 0.2), ("defocus", 3.0), ("jpeg", 2.0)]), strict=True))
        assert severities["compression"] == severities["jpeg"] == 2 and severities["sharpness"] == 3
        assert severities["noise"] == severities["gaussian_blur"] == 0


class TestExplanation:
    def test_of_the_example_photographs(self, explained):
        """What was done to each stands in examples/photos/README.md."""
        assert explained["spices_compressed"].reasons[0].name == "compression"
        assert explained["spices_compressed"].reasons[0].amount == pytest.approx(12, abs=8)
        assert explained["otter_shaken"].reasons[0].name == "sharpness"
        assert {"dark", "noise"} & {reason.name for reason in explained["lake_dark_noisy"].reasons}
        assert explained["osprey"].reasons == () and explained["osprey"].sentence == NOTHING

    def test_form(self, explained):
        for found in explained.values():
            assert isinstance(found, Explanation) and tuple(amount.name for amount in found.amounts) == NAMES
            assert found.map is None
            for reason in (*found.reasons, *found.amounts):
                assert isinstance(reason, Reason) and 0 <= reason.percentile <= 100 and np.isfinite(reason.amount)
                assert not reason.sentence.endswith(".")
            if found.reasons:
                assert found.sentence.startswith(f"Mostly {found.reasons[0].sentence}")

    def test_every_model_gives_the_same_reasons_and_its_own_score(self, compact, explained, photos):
        path = photos[0]
        found = compact.explain(path)
        assert found.reasons == explained[path.stem].reasons and found.amounts == explained[path.stem].amounts
        assert float(found.score) == float(compact.score(path))

    def test_list_in_list_out_and_any_source(self, tiny, photos, explained):
        one, two = tiny.explain([photos[0].read_bytes(), Image.open(photos[0])])
        stream = tiny.explain(io.BytesIO(photos[0].read_bytes()))
        assert one.amounts == two.amounts == stream.amounts == explained[photos[0].stem].amounts
        with photos[0].open("rb") as file:
            tiny.score(file)  # leaves it where it stopped reading
            assert tiny.explain(file).amounts == one.amounts
        with pytest.raises(ImageError, match="gone"):
            tiny.explain("gone.jpg")

    def test_what_shows_at_100_percent_only(self, clean):
        """Grain that a screen averages away."""
        mosaic = np.tile(np.round(clean * 255).astype(np.int16), (6, 6, 1))
        noise = np.random.default_rng(0).normal(0, 14, mosaic.shape).astype(np.int16)
        native, screen = decode_views(np.clip(mosaic + noise, 0, 255).astype(np.uint8), 10**8)
        assert max(screen.shape) == SCREEN and native.pixels.shape[1:] == mosaic.shape[:2]
        found = explain_views(native, screen, Score(1.0, 0.4, 0.6))
        assert [reason.name for reason in found.reasons if "at 100 %" in reason.sentence] == ["noise"]
        assert found.reasons[-1].amount == pytest.approx(14, abs=4)
        assert not any("at 100 %" in amount.sentence for amount in found.amounts)

    def test_gray_and_tiny_pictures(self, tiny):
        for picture in (np.zeros((1, 1), np.uint8), np.full((40, 300, 3), 200, np.uint8)):
            found = tiny.explain(picture, map=True)
            assert found.map is not None and found.map.shape == picture.shape[:2]

    def test_words(self):
        assert describe("dull", 0, "desaturation") == "no color"
        assert describe("color_cast", 22, "color_cast", "green").startswith("a green tint")
        reasons = [Reason("noise", 12, 90, "noise: grainy"), Reason("dark", 1, 90, "dark: x")]
        assert summary(reasons) == "Mostly noise: grainy; also dark." and summary([]) == NOTHING
        assert all(describe(group, 1.0, members[0]) for group, members in GROUPS.items())


class TestMap:
    @pytest.mark.parametrize("family", ["gaussian_blur", "white_noise", "jpeg"])
    def test_shows_a_distorted_quadrant(self, clean, family):
        mixed = clean.copy()
        half = (slice(0, clean.shape[0] // 2), slice(0, clean.shape[1] // 2))
        mixed[half] = distort(clean, family, 4, np.random.default_rng(0))[half]
        found = quality_map(mixed)
        inside = np.zeros(found.shape, bool)
        inside[half] = True
        assert found.dtype == np.float32 and found.shape == clean.shape[:2]
        assert found[inside].mean() > found[~inside].mean() + 0.15
        assert quality_map(clean).mean() < found[inside].mean()

    def test_a_flat_picture_stays_dark(self):
        assert quality_map(np.full((200, 300, 3), 0.6, np.float32)).max() < MARKED

    def test_unsure_cells_take_their_neighbors_word(self):
        severity, precision = np.zeros((9, 9), np.float32), np.full((9, 9), 5, np.float32)
        severity[4, 4], precision[4, 4] = 5, 1e-3
        assert shared(severity, precision)[4, 4] < 0.1
        precision[4, 4] = 50
        assert shared(severity, precision)[4, 4] > 1.5
        even = shared(np.full((9, 9), 3, np.float32), np.full((9, 9), 5, np.float32))
        assert np.ptp(even) < 1e-4 and even[0, 0] == pytest.approx(3, abs=0.05)

    def test_overlay(self, clean):
        drawn = overlay(as_image(clean), np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
        assert drawn.mode == "RGB" and drawn.width == clean.shape[1] and drawn.height > clean.shape[0]
        top, bottom = (
            np.asarray(drawn)[rows].mean() for rows in (slice(0, 40), slice(clean.shape[0] - 40, clean.shape[0]))
        )
        assert bottom > top  # light is worst
        for wrong in (np.zeros(3), np.full((2, 2), np.nan), np.zeros((0, 4))):
            with pytest.raises(UsageError, match="map"):
                overlay(as_image(clean), wrong)
        assert overlay(np.zeros((5, 5, 3), np.uint8), np.zeros((1, 1))).width == 5

    def test_colors_rise_in_lightness(self):
        assert (np.diff(magma(np.linspace(0, 1, 50)) @ LUMA) > 0).all()
        assert magma(-1).tolist() == magma(0).tolist() and magma(0.5).tolist() == [187, 56, 120]
