"""Two processes by `accelerate launch` on the CPU train as one does: same losses, same weights, one set of files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_clip import random_clip
from safetensors.torch import load_file, save_file
from train_together import LOW_LEVEL, STEPS

from grepq_iqa.errors import UsageError
from grepq_iqa.training import processes, shared_memory
from grepq_iqa.training.data.prepare import prepare
from grepq_iqa.training.loop import LoopSettings

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    prepare(map(str, photos), folder / "set")
    save_file(random_clip(), folder / "clip.safetensors")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    script = [str(HERE / "train_together.py"), str(folder / "set"), str(folder / "clip.safetensors")]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_machines",
        "1",
        "--num_processes",
        "2",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port())]
    for command, name in (([sys.executable], "one"), (launch, "two")):
        done = subprocess.run(
            [*command, *script, str(folder / name)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "one", folder / "two"


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


@pytest.mark.parametrize(("name", "steps"), [("low", STEPS), ("resumed", STEPS), ("high", 3)])
def test_two_processes_have_the_loss_curve_of_one(runs, name, steps):
    one, two = (losses(run / name) for run in runs)
    assert len(one) == steps and two == pytest.approx(one, abs=1e-5)
    rates = [
        [json.loads(line)["lr"] for line in (run / name / "metrics.jsonl").read_text().splitlines()] for run in runs
    ]
    assert rates[0] == rates[1]  # the schedule advances once a step


@pytest.mark.parametrize("name", ["low", "resumed", "high"])
def test_the_last_state_is_saved_and_is_that_of_one_process(runs, name):
    states = []
    for run in runs:
        checkpoint = run / name / "checkpoint"
        assert json.loads((checkpoint / "step.json").read_text())["step"] == len(losses(run / name))
        states.append(load_file(checkpoint / "model.safetensors"))
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, atol=2e-5, rtol=1e-3, msg=key)


def test_after_parting_the_first_goes_on_as_if_it_had_been_started_alone(runs):
    one, two = runs
    assert losses(two / "alone") == losses(one / "alone") == losses(one / "low")


def test_the_groups_are_those_of_the_whole_batch(runs):
    gaps = [
        [json.loads(row)["gap"] for row in (run / "high" / "metrics.jsonl").read_text().splitlines()] for run in runs
    ]
    assert gaps[1] == pytest.approx(gaps[0], abs=1e-5)


def test_one_process_writes(runs):
    names = [{path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} for run in runs]

    def told(files: set[str]) -> set[str]:
        return {name for name in files if "tensorboard" not in name and "random_states" not in name}

    assert told(names[0]) == told(names[1])
    assert not any(".part" in name or "checkpoint.new" in name or "checkpoint.old" in name for name in names[1])


@given(size=st.integers(1, 40), processes_=st.integers(1, 9), start=st.integers(0, 99))
def test_shares_make_up_the_batch_and_weigh_as_it(size, processes_, start):
    items = range(start, start + size)
    shares = [processes.share_of(items, process, processes_) for process in range(processes_)]
    assert [item for mine, weight in shares if weight for item in mine] == list(items)
    assert all(mine for mine, _ in shares)
    values = {item: item**2 / 7 for item in items}
    mean = sum(weight * sum(values[item] for item in mine) / len(mine) for mine, weight in shares) / processes_
    assert mean == pytest.approx(sum(values.values()) / size)


@given(epoch=st.integers(1, 30), size=st.integers(1, 12))
def test_every_epoch_has_every_item_once_and_a_short_last_batch(epoch, size):
    settings = LoopSettings(Path(), 0, size, epoch_items=epoch)
    per_epoch = -(-epoch // size)
    items = [list(settings.items(step)) for step in range(3 * per_epoch)]
    for passed in range(3):
        batches = items[passed * per_epoch : (passed + 1) * per_epoch]
        assert [item for batch in batches for item in batch] == list(range(passed * epoch, (passed + 1) * epoch))
        assert all(len(batch) == size for batch in batches[:-1]) and 0 < len(batches[-1]) <= size
    assert list(LoopSettings(Path(), 0, size).items(3)) == list(range(3 * size, 4 * size))
    assert LOW_LEVEL.short_batches


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    processes.require_equal_shares(7, "photographs")
    monkeypatch.setattr(processes, "count", lambda: 2)
    processes.require_equal_shares(8, "photographs")
    with pytest.raises(UsageError, match="batch of 7 photographs does not divide among 2"):
        processes.require_equal_shares(7, "photographs")


def test_small_shared_memory_is_warned_of(tmp_path, recwarn):
    item = {"first": torch.zeros(9, 3, 224, 224, dtype=torch.uint8)}
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    shared_memory.warn_if_small(item, 1, 1, tmp_path)
    shared_memory.warn_if_small(item, 1, 1, tmp_path / "absent")
    assert not recwarn
    with pytest.warns(UserWarning, match="--shm-size"):
        shared_memory.warn_if_small(item, 1, free // item["first"].nbytes, tmp_path)
