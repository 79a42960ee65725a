"""The stream of results: order, bounds, and survival."""

from __future__ import annotations

import gc
import os
import weakref

import numpy as np
import pytest
from PIL import Image

from grepq_iqa import GRepQ, batch
from grepq_iqa.feature_cache import FeatureCache, model_key


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, photos):
    """Broken input of every kind between good files."""
    base = tmp_path_factory.mktemp("corpus")
    good = photos[0].read_bytes()
    files = {f"cut-{tenth}.jpg": good[: len(good) * tenth // 10] for tenth in range(10)}
    files |= {"zero.jpg": b"", "text.png": b"hello", "good-1.jpg": good, "png.jpg": good, "z-good-2.jpg": good}
    flipped = bytearray(good)
    flipped[300:340] = bytes(40)
    files["flipped.jpg"] = bytes(flipped)
    for name, data in files.items():
        (base / name).write_bytes(data)
    (base / "folder.jpg").mkdir()
    (base / "dangling.jpg").symlink_to(base / "nowhere")
    Image.new("RGB", (1, 200)).save(base / "narrow.png")
    Image.new("RGB", (300, 1)).save(base / "flat.png")
    Image.new("RGB", (1, 1)).save(base / "dot.png")
    Image.new("L", (3000, 10), 90).save(base / "ribbon.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 30000), np.uint8)).save(base / "long.png")
    Image.fromarray(np.full((120, 120), np.nan, np.float32)).save(base / "nan.tiff")
    for name in ("locked.jpg", "two\nlines.jpg", "s\u00f6n \U0001f33b.jpg"):
        (base / name).write_bytes(good)
    (base / "locked.jpg").chmod(0)
    return base


def test_every_file_ends_in_a_row_and_none_stops_the_others(compact, corpus):
    paths = sorted(corpus.iterdir())
    results = list(batch.score_paths(compact, paths, features=True))
    assert [r.path for r in results] == [str(p) for p in paths]
    for result in results:
        assert (result.score is None) == (result.error is not None) == (result.features is None)
        if result.score:
            assert np.isfinite(result.score.value) and np.isfinite(result.features).all()
    by_name = {p.name: r for p, r in zip(paths, results, strict=True)}
    assert by_name["good-1.jpg"].score == by_name["z-good-2.jpg"].score == by_name["png.jpg"].score
    assert all(by_name[f"cut-{tenth}.jpg"].error for tenth in range(10))
    assert by_name["dot.png"].score and by_name["ribbon.png"].score and by_name["narrow.png"].score
    assert "folder" in by_name["folder.jpg"].error and "link" in by_name["dangling.jpg"].error
    assert by_name["long.png"].score and by_name["nan.tiff"].error
    good = by_name["good-1.jpg"].score.score
    assert by_name["two\nlines.jpg"].score.value == by_name["s\u00f6n \U0001f33b.jpg"].score.value == good
    locked = by_name["locked.jpg"]
    if os.access(locked.path, os.R_OK):  # as root may
        assert locked.score
    else:
        assert "permission" in locked.error.lower()


def test_neighbors_of_one_size_share_a_pass_and_change_nothing(compact, tmp_path, photos, monkeypatch):
    photo = Image.open(photos[0])
    sizes = [(120, 100)] * 5 + [(100, 120)] * 2 + [(120, 100), (600, 500), (600, 500), (120, 100), (120, 100)]
    paths = []
    for index, (width, height) in enumerate(sizes):
        paths.append(tmp_path / f"{index}.png")
        photo.crop((index, index, index + width, index + height)).save(paths[-1])
    paths.insert(3, tmp_path / "missing.png")
    passes = []
    whole = compact.score_prepared
    monkeypatch.setattr(compact, "score_prepared", lambda images: passes.append(len(images)) or whole(images))
    together = list(batch.score_paths(compact, paths))
    # three, the missing file, two; then by size; big ones alone
    assert passes == [3, 2, 2, 1, 1, 1, 2]
    for path, result in zip(paths, together, strict=True):
        [alone] = batch.score_paths(compact, [path])
        assert result.path == alone.path == str(path) and (result.error is None) == path.exists()
        if result.score:
            assert result.score.value == pytest.approx(alone.score.value, abs=2e-5)


def test_a_gpu_gets_pictures_of_one_size_together_and_rows_keep_their_order(compact, tmp_path, photos, monkeypatch):
    photo = Image.open(photos[0])
    paths = []
    for index in range(10):
        width, height = (120, 100) if index % 2 else (100, 120)
        paths.append(tmp_path / f"{index}.png")
        photo.crop((index, index, index + width, index + height)).save(paths[-1])
    paths.insert(3, tmp_path / "missing.png")
    passes = []
    whole = compact.score_prepared
    monkeypatch.setattr(compact, "score_prepared", lambda images: passes.append(len(images)) or whole(images))
    alone = list(batch.score_paths(compact, paths))
    passes.clear()
    monkeypatch.setattr(compact.engine, "batch_pixels", batch.BUCKETS_FROM)
    monkeypatch.setattr(batch, "READ_AHEAD_BUCKETS", 6)
    together = list(batch.score_paths(compact, paths))
    # of the first six: three even ones; then, six again, the odd ones; the missing file has no pass
    assert passes[0] == 3 and max(passes) >= 3 and sum(passes) == 10 and len(passes) < 6
    assert [result.path for result in together] == [str(path) for path in paths]
    for one, other in zip(alone, together, strict=True):
        assert (one.error is None) == (other.error is None)
        if one.score:
            assert one.score.score == pytest.approx(other.score.score, abs=2e-5)


def test_a_pass_that_fails_is_repeated_one_by_one(compact, tmp_path, photos, monkeypatch):
    paths = []
    for index in range(3):
        paths.append(tmp_path / f"{index}.png")
        Image.open(photos[0]).crop((0, 0, 110, 100)).save(paths[-1])
    whole = compact.score_prepared

    def scarce(images):
        if len(images) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(images)

    monkeypatch.setattr(compact, "score_prepared", scarce)
    assert all(result.score for result in batch.score_paths(compact, paths))
    monkeypatch.setattr(compact, "score_prepared", lambda images: scarce(list(images) * 2))
    assert ["--max-side" in result.error for result in batch.score_paths(compact, paths)] == [True] * 3


def test_names_are_asked_for_only_just_ahead(compact, photos):
    asked = []

    def names():
        for index in range(1000):
            asked.append(index)
            yield photos[0].parent / f"missing-{index}.jpg"

    stream = batch.score_paths(compact, names())
    for seen in range(1, 20):
        next(stream)
        assert len(asked) <= seen + batch.READ_AHEAD
    stream.close()
    assert len(asked) < 40


def test_what_is_known_comes_at_once_and_what_is_not_does_not_wait_for_the_rest(tiny_model, tmp_path):
    tiny = GRepQ.from_pretrained(tiny_model, device="cpu")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.effect_noise((100, 100), 20 + number).convert("RGB").save(folder / f"{number}.png")
    pictures = [str(folder / f"{number}.png") for number in range(4)]
    cache = FeatureCache(tmp_path / "features", model_key(tiny))
    known = list(batch.score_paths(tiny, pictures[:2], features=True, cache=cache))
    asked = []

    def names(paths):
        for path in paths:
            asked.append(path)
            yield path

    many = pictures[:2] * 300
    stream = batch.score_paths(tiny, names(many), cache=cache)
    for seen in range(1, 20):
        assert next(stream).score == known[(seen + 1) % 2].score and len(asked) == seen
    stream.close()
    asked.clear()
    new = [pictures[2], *many, str(folder / "gone.png"), *pictures[:2] * 40, pictures[3], pictures[0]]
    stream = batch.score_paths(tiny, names(new), features=True, cache=cache)
    results = [next(stream)]
    assert len(asked) <= batch.READ_AHEAD + batch._KNOWN_IN_A_ROW
    results += stream
    assert [result.path for result in results] == new
    assert [result.path for result in results if result.score is None] == [str(folder / "gone.png")]
    plain = {result.path: result for result in batch.score_paths(tiny, [*pictures, *pictures])}
    for result in results:
        if result.score is not None:
            assert float(result.score) == pytest.approx(float(plain[result.path].score), abs=1e-6)


def test_results_are_not_kept(compact, photos):
    kept = []
    for result in batch.score_paths(compact, [photos[0]] * 6, features=True):
        kept.append(weakref.ref(result.features))
        del result
        gc.collect()
    assert sum(ref() is not None for ref in kept) == 0


def test_no_paths_no_rows(compact):
    assert list(batch.score_paths(compact, [])) == []
