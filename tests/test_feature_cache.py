"""A cache that forgets rather than lies."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from grepq_iqa.feature_cache import FeatureCache, default_directory

MODEL = "ab" * 32


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"not really a picture")
    return path


def entries(cache: FeatureCache) -> list[Path]:
    return [path for path in cache.directory.rglob("*") if path.is_file()]


def test_what_is_put_comes_back(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    assert cache.get(image) is None
    features, score = np.linspace(0, 1, 50, dtype=np.float32), {"value": 0.5, "warnings": ["ä"], "percentile": None}
    cache.put(image, features, score)
    found = cache.get(image)
    np.testing.assert_array_equal(found, features)
    assert found.dtype == np.float32
    assert cache.get_score(image) == score
    cache.put(image, features)
    assert cache.get_score(image) is None


def test_content_counts_and_not_the_name(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    cache.put(image, np.ones(3))
    copy = tmp_path / "other.png"
    copy.write_bytes(image.read_bytes())
    assert cache.get(copy) is not None
    image.write_bytes(b"changed")
    assert cache.get(image) is None


def test_models_do_not_share(tmp_path, image):
    FeatureCache(tmp_path, MODEL).put(image, np.ones(3))
    assert FeatureCache(tmp_path, "cd" * 32).get(image) is None
    assert FeatureCache(tmp_path, MODEL).get(image) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data[:100] + bytes(b ^ 0xFF for b in data[100:140]) + data[140:],
        lambda data: b"\x80\x04K\x01.",  # a pickle
    ],
)
def test_a_damaged_entry_is_absent_and_written_again(tmp_path, image, damage):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    cache.put(image, np.ones(30), {"value": 1.0})
    [entry] = entries(cache)
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.get(image) is None
    cache.put(image, np.ones(30))
    np.testing.assert_array_equal(cache.get(image), np.ones(30))


def test_wrong_contents_are_absent(tmp_path, image):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    cache.put(image, np.ones(3))
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
        assert cache.get(image) is None


def test_a_missing_file_is_not_an_error_here(tmp_path):
    cache = FeatureCache(tmp_path / "cache", MODEL)
    cache.put(tmp_path / "none.jpg", np.ones(3))
    assert cache.get(tmp_path / "none.jpg") is None
    assert cache.get(tmp_path) is None


def test_a_cache_that_cannot_be_written_warns_once(tmp_path, image):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = FeatureCache(blocked, MODEL)
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        cache.put(image, np.ones(3))
        cache.put(image, np.ones(3))
    assert len(caught) == 1
    assert cache.get(image) is None


def _write_many(directory: str, image: str, value: float) -> None:
    cache = FeatureCache(directory, MODEL)
    for _ in range(50):
        cache.put(image, np.full(2000, value))
        found = cache.get(image)
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
