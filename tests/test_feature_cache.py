"""A cache that forgets rather than lies."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from grepq_iqa.feature_cache import FeatureCache, default_directory
from grepq_iqa.results import Score

MODEL = "ab" * 32


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"not really a picture")
    return path


def put(cache: FeatureCache, path: Path, features, score: Score | None = None, seconds: float | None = None) -> None:
    cache.write(cache.digest(path), features, score, seconds)


def get(cache: FeatureCache, path: Path):
    entry = cache.read(cache.digest(path))
    return None if entry is None else entry.features


def entries(cache: FeatureCache) -> list[Path]:
    return [path for path in cache.directory.rglob("*") if path.is_file()]


def test_what_is_put_comes_back(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    assert get(cache, image) is None
    features, score = np.linspace(0, 1, 50, dtype=np.float32), Score(0.5, 0.2, 0.3, 71.0, ("ä",))
    put(cache, image, features, score, 0.25)
    found = cache.read(cache.digest(image))
    np.testing.assert_array_equal(found.features, features)
    assert found.features.dtype == np.float32 and found.seconds == 0.25
    assert found.score == dataclasses.replace(score, percentile=None)  # its table may change without the encoders
    put(cache, image, features)
    assert cache.read(cache.digest(image))[1:] == (None, None)


def test_scores_of_version_0_1_are_read(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    put(cache, image, np.ones(3))
    [entry] = entries(cache)
    fields = {"value": 0.5, "low_level": 0.2, "high_level": 0.3, "percentile": None, "warnings": ["tiny"]}
    with entry.open("wb") as file:
        np.savez(file, features=np.ones(3), score=np.frombuffer(json.dumps(fields).encode(), dtype=np.uint8))
    assert cache.read(cache.digest(image)).score == Score(0.5, 0.2, 0.3, None, ("tiny",))


def test_content_counts_and_not_the_name(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    put(cache, image, np.ones(3))
    copy = tmp_path / "other.png"
    copy.write_bytes(image.read_bytes())
    assert get(cache, copy) is not None
    image.write_bytes(b"changed")
    assert get(cache, image) is None


def test_models_do_not_share(tmp_path, image):
    put(FeatureCache(tmp_path, MODEL), image, np.ones(3))
    assert get(FeatureCache(tmp_path, "cd" * 32), image) is None
    assert get(FeatureCache(tmp_path, MODEL), image) is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data[:100] + bytes(b ^ 0xFF for b in data[100:140]) + data[140:],
        lambda data: b"\x80\x04K\x01.",  # a pickle
    ],
)
def test_a_damaged_entry_is_absent_and_written_again(tmp_path, image, spoil):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    put(cache, image, np.ones(30), Score(1.0, 0.5, 0.5))
    [entry] = entries(cache)
    entry.write_bytes(spoil(entry.read_bytes()))
    assert get(cache, image) is None
    put(cache, image, np.ones(30))
    np.testing.assert_array_equal(get(cache, image), np.ones(30))


def test_wrong_contents_are_absent(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    put(cache, image, np.ones(3))
    [entry] = entries(cache)
    for arrays in (
        {"features": np.array([1, np.nan])},
        {"features": np.ones((2, 2))},
        {"other": np.ones(2)},
        {"features": np.ones(2), "score": np.frombuffer(b"{", dtype=np.uint8)},
        {"features": np.ones(2), "score": np.frombuffer(json.dumps([1]).encode(), dtype=np.uint8)},
        {"features": np.array([{}], dtype=object)},
    ):
        with entry.open("wb") as file:
            np.savez(file, **arrays)
        assert get(cache, image) is None


def test_a_missing_file_is_not_an_error_here(tmp_path):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    put(cache, tmp_path / "none.jpg", np.ones(3))
    assert get(cache, tmp_path / "none.jpg") is None
    assert get(cache, tmp_path) is None


def test_a_cache_that_cannot_be_written_warns_once(tmp_path, image):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = FeatureCache(blocked, MODEL)
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        put(cache, image, np.ones(3))
        put(cache, image, np.ones(3))
    assert len(caught) == 1
    assert get(cache, image) is None


def _write_many(directory: str, image: str, value: float) -> None:
    cache = FeatureCache(directory, MODEL)
    for _ in range(50):
        put(cache, image, np.full(2000, value))
        found = get(cache, image)
        assert found is not None and np.ptp(found) == 0


def test_two_processes_share(tmp_path, image):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(str(tmp_path / "c"), str(image), v)) for v in (1.0, 2.0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(entries(FeatureCache(tmp_path / "c", MODEL))) == 1  # nothing unfinished is left


@pytest.mark.skipif(os.name == "nt", reason="XDG is not for Windows")
def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "grepq-iqa" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache" / "grepq-iqa" / "features"
