"""What is made in parts: whole however it was cut, and after a stop only the rest is made."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from grepq_iqa.training import shards
from grepq_iqa.training.shards import in_shards


def squares(log, members):
    """Of the members; which were asked for is written down."""
    if log is not None:
        with log.open("a") as stream:
            stream.writelines(f"{member}\n" for member in members)
    if log is not None and (log.parent / "stop").exists() and members[-1] >= 4:
        raise RuntimeError("the machine stops")
    return {"square": np.array([m * m for m in members]), "pair": np.array([[m, -m] for m in members], np.float32)}


@pytest.fixture
def here(monkeypatch):
    """Jobs run in this process, as those of a pool of one do in theirs."""

    class Here:
        def __init__(self, *_):
            pass

        def submit(self, function, *arguments):
            class Job:
                def result(self):
                    function(*arguments)

            return Job()

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(shards, "ProcessPoolExecutor", Here)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_whole(tmp_path, workers):
    told = []
    made = in_shards(
        partial(squares, None), 7, tmp_path / "new" / "folder", name="n", size=3, workers=workers, on_done=told.append
    )
    np.testing.assert_array_equal(made["square"], np.arange(7) ** 2)
    assert made["pair"].shape == (7, 2) and made["pair"].dtype == np.float32
    assert told == [3, 6, 7]


def never(log, members):
    with log.open("a") as stream:
        stream.write(f"{members[0]}\n")
    raise ValueError("cannot be read")


def test_an_error_begins_nothing_else(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(ValueError, match="cannot be read"):
        in_shards(partial(never, log), 40, tmp_path / "made", name="n", size=1)
    assert len(log.read_text().split()) < 10  # a worker's queue holds one or two more


def test_after_a_stop_only_the_rest_is_made(tmp_path, here):
    log, folder = tmp_path / "log", tmp_path / "made"
    (tmp_path / "stop").touch()
    make, told = partial(squares, log), []
    with pytest.raises(RuntimeError, match="the machine stops"):
        in_shards(make, 7, folder, name="n", size=2, on_done=told.append)
    assert told == [2, 4] and len(list(folder.iterdir())) == 2
    (tmp_path / "stop").unlink()
    log.unlink()
    made = in_shards(make, 7, folder, name="n", size=2, on_done=told.append)
    np.testing.assert_array_equal(made["square"], np.arange(7) ** 2)
    assert [int(line) for line in log.read_text().split()] == [4, 5, 6]
    assert told == [2, 4, 6, 7]
    log.unlink()
    in_shards(make, 7, folder, name="n", size=2)
    assert not log.exists()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_another_count_takes_no_short_shard_for_a_whole_one(tmp_path, here, size):
    for first, then in itertools.product(range(1, 10), repeat=2):
        for count in (first, then):
            made = in_shards(partial(squares, None), count, tmp_path / f"{first}-{then}", name="n", size=size)
            np.testing.assert_array_equal(made["square"], np.arange(count) ** 2)
