"""The full-resolution branch: measures against slow versions, order on real crops, close-ups of large files."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.fft import dctn

from grepq_iqa.data.close_ups import close_up_boxes
from grepq_iqa.data.images import decode_image
from grepq_iqa.data.traces import BLOCK, best_phase, block_coefficients, grid_strength
from grepq_iqa.encoders.fine_detail import AMOUNTS, CLOSE_UPS, MOST, VIEW, FineDetail, fixed_views, from_state, to_state
from grepq_iqa.encoders.fine_measures import LEAST_SIDE, MEASURES, measure_fine
from grepq_iqa.training.data.pictures import read_picture
from grepq_iqa.training.fine_detail import STEPS, amount_of_compression, fit_fine_detail, make_series


class TestMeasures:
    @given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_coefficients_are_scipys_of_every_block(self, top, left, seed):
        luma = (np.random.default_rng(seed).random((37, 45)) * 255).astype(np.float32)
        found = block_coefficients(luma, top, left)
        slow = [
            dctn(luma[row : row + 8, column : column + 8].astype(np.float64) - 128, norm="ortho")
            for row in range(top, 37 - 7, 8)
            for column in range(left, 45 - 7, 8)
        ]
        np.testing.assert_allclose(found, np.stack(slow), atol=1e-3)

    @pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 0), (0, 5), (6, 2)])
    def test_the_grid_is_found_wherever_a_crop_has_moved_it(self, photos, top, left):
        saved = io.BytesIO()
        Image.open(photos[1]).convert("RGB").save(saved, "JPEG", quality=30)
        luma = np.asarray(Image.open(saved).convert("L"), np.float32)[top:, left:]
        phases = [best_phase(grid_strength(np.ascontiguousarray(plane))[0]) for plane in (luma, luma.T)]
        # the step at index i is between pixels i + 1 and i + 2
        assert [(phase + 2) % BLOCK for phase in phases] == [-left % BLOCK, -top % BLOCK]

    @given(st.integers(LEAST_SIDE, 70), st.integers(LEAST_SIDE, 70), st.sampled_from(["flat", "random", "black"]))
    @settings(max_examples=25, deadline=None)
    def test_they_are_finite_for_any_content_and_size(self, height, width, content):
        rng = np.random.default_rng(0)
        pixels = {
            "flat": np.full((3, height, width), 0.4),
            "random": rng.random((3, height, width)),
            "black": np.zeros((3, height, width)),
        }[content].astype(np.float32)
        found = measure_fine(pixels)
        assert found.shape == (len(MEASURES),) and np.isfinite(found).all()


class TestViews:
    @given(st.integers(96, 1500), st.integers(96, 1500))
    @settings(max_examples=60, deadline=None)
    def test_they_are_squares_on_the_grid_of_blocks_and_do_not_overlap(self, height, width):
        marks = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
        views = fixed_views(np.repeat(marks, 3, axis=0))
        side = min(VIEW, height, width)
        assert 1 <= len(views) <= 4 and all(view.shape == (3, side, side) for view in views)
        starts = [divmod(int(view[0, 0, 0]), width) for view in views]
        assert all(row % BLOCK == column % BLOCK == 0 for row, column in starts)
        for index, (row, column) in enumerate(starts):
            for other_row, other_column in starts[:index]:
                assert abs(row - other_row) >= side or abs(column - other_column) >= side
        if min(height, width) >= 2 * VIEW:
            assert len(views) == 4

    def test_close_ups_are_where_the_detail_is_and_the_same_every_time(self):
        screen = np.zeros((3, 300, 400), np.float32)
        screen[:, 200:290, 250:390] = np.random.default_rng(0).random((3, 90, 140))
        boxes = close_up_boxes(screen, (4000, 3000), 192, 4)
        assert boxes == close_up_boxes(screen, (4000, 3000), 192, 4) and len(boxes) == 4
        left, top, right, bottom = boxes[0]
        assert (right - left, bottom - top) == (192, 192) and left >= 2300 and top >= 1800
        assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 4000 and box[3] <= 3000 for box in boxes)

    @pytest.mark.parametrize("kind", ["jpeg", "png16", "array", "turned"])
    def test_a_large_picture_is_cut_at_its_own_pixels(self, photos, tmp_path, kind):
        small = np.asarray(Image.open(photos[0]).convert("RGB"))
        large = np.tile(small, (-(-1400 // len(small)), -(-1800 // small.shape[1]), 1))[:1400, :1800]
        path = tmp_path / f"{kind}.{'png' if kind == 'png16' else 'jpg'}"
        source = path
        if kind == "png16":
            Image.fromarray(large[..., 0].astype(np.uint16) * 257).save(path)
        elif kind == "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.fromarray(large).save(path, quality=95, exif=exif)
        elif kind == "jpeg":
            Image.fromarray(large).save(path, quality=95)
        else:
            source = large
        decoded = decode_image(source, max_side=512, close_up=(VIEW, CLOSE_UPS))
        assert max(decoded.values.shape) == 512 and 1 <= len(decoded.close_ups) <= CLOSE_UPS
        whole = decode_image(source).values
        places = [
            np.abs(whole[:, top : top + VIEW, left : left + VIEW] - cut).mean()
            for cut in decoded.close_ups[:1]
            for top in range(0, whole.shape[1] - VIEW + 1, 8)
            for left in range(0, whole.shape[2] - VIEW + 1, 8)
        ]
        assert min(places) < 1e-4
        assert decode_image(source, max_side=512).close_ups == ()
        assert decode_image(source, max_side=1800, close_up=(VIEW, CLOSE_UPS)).close_ups == ()  # it is not shrunk


@pytest.fixture(scope="module")
def fine(photos) -> FineDetail:
    series = make_series(list(photos), list(photos), range(180), seed=0)
    return fit_fine_detail(series, epochs=30)


class TestTraining:
    def test_series_depend_on_their_index_alone(self, photos):
        first = make_series(list(photos), list(photos), range(3, 9), seed=1)
        again = make_series(list(photos), list(photos), range(5, 6), seed=1)
        np.testing.assert_array_equal(first.measures[2], again.measures[0])
        assert first.measures.shape == (6, 1 + STEPS, len(MEASURES)) and first.kind.tolist() == [1, 2, 2, 0, 0, 1]
        known = ~np.isnan(first.amounts)
        assert known[1::2].all() and not known[0::2].all()  # what is unlabeled has unknown distortions of its own
        rising = first.amounts[np.arange(6), :, first.kind][:, 1:]
        assert (np.diff(rising, axis=1) >= 0).all()

    def test_amounts_rise_with_blur_noise_and_compression(self, fine, photos):
        picture = read_picture(photos[1])[:VIEW, :VIEW]
        noise = np.random.default_rng(5).standard_normal(picture.shape).astype(np.float32)

        def saved(quality: int) -> np.ndarray:
            stream = io.BytesIO()
            Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
            return np.asarray(Image.open(stream), np.float32) / 255

        series = {
            "blur": [ndimage.gaussian_filter(picture, (sigma, sigma, 0)) for sigma in (0.8, 2, 5)],
            "noise": [np.clip(picture + noise * sigma / 255, 0, 1) for sigma in (4, 12, 35)],
            "compression": [saved(quality) for quality in (80, 50, 20)],
        }
        for name, copies in series.items():
            views = [np.ascontiguousarray(copy.transpose(2, 0, 1)) for copy in copies]
            amounts = [fine.of_views([view]) for view in views]
            own = [amount[AMOUNTS.index(name)] for amount in amounts]
            assert own[0] < own[1] < own[2], name
            assert all(amount.min() >= 0 and amount.max() <= MOST for amount in amounts)
        assert amount_of_compression(95) == 1 and amount_of_compression(70) == pytest.approx(2.807, abs=1e-3)

    def test_a_file_keeps_it_and_one_of_other_measures_is_refused(self, fine):
        weight, expected = np.array([0.1, 0.2, 0.3], np.float32), np.array([2, 0.5, 1], np.float32)
        costly = replace(fine, weight=weight, expected=expected, close_up=0.4)
        stored = to_state(costly)
        again = from_state({key: value.astype(np.float32) for key, value in stored.items()})
        measures = np.random.default_rng(0).normal(size=(5, len(MEASURES))).astype(np.float32)
        np.testing.assert_allclose(again.of_measures(measures), costly.of_measures(measures), rtol=1e-5)
        np.testing.assert_allclose(again.shift(np.ones((2, 3), np.float32)), 0.1 - 0.1, atol=1e-7)
        np.testing.assert_allclose(again.shift(np.array([[3, 1, 2]], np.float32)), [-0.1 - 0.1 - 0.3], atol=1e-6)
        with pytest.raises(ValueError, match="other measures"):
            from_state(stored | {"mean": stored["mean"][:-1]})
        with pytest.raises(KeyError):
            from_state({key: value for key, value in stored.items() if key != "weight"})
        with pytest.raises(ValueError, match="other measures"):
            from_state(stored | {"weight": weight[:2]})

    def test_one_weight_for_all_kinds_as_version_0_2_stored_it_is_read(self, fine):
        earlier = to_state(fine) | {"weight": np.array(0.25, np.float32), "expected": np.array(1.5, np.float32)}
        amounts = np.array([[1, 1, 1], [0, 2, 4]], np.float32)
        np.testing.assert_allclose(from_state(earlier).shift(amounts), 0.25 * (1.5 - amounts.sum(1)), rtol=1e-6)

    def test_a_picture_is_as_sharp_as_its_sharpest_view_and_close_ups_count_by_their_share(self, fine):
        rng = np.random.default_rng(0)
        sharp = rng.random((3, VIEW, VIEW)).astype(np.float32)
        soft = ndimage.gaussian_filter(sharp, (0, 3, 3)) * 0.9
        alone = [fine.of_views([view]) for view in (sharp, soft)]
        both = fine.of_views([sharp, soft])
        assert both[0] == pytest.approx(min(alone[0][0], alone[1][0]), abs=1e-4)
        np.testing.assert_allclose(both[1:], (alone[0][1:] + alone[1][1:]) / 2, atol=1e-4)
        np.testing.assert_allclose(replace(fine, close_up=0.5)(sharp, [soft]), alone[0] + 0.5 * alone[1], atol=1e-4)


def test_a_model_that_lacks_its_branch_says_so(tmp_path):
    from grepq_iqa import GRepQ
    from grepq_iqa.errors import WeightsError

    folder = GRepQ.from_pretrained().save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["fine_detail"] = {"amounts": list(AMOUNTS)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "fine_detail.safetensors").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=r"has no fine_detail\.safetensors"):
        GRepQ.from_pretrained(folder)
