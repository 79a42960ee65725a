"""A metric for torchmetrics, files for FiftyOne and Label Studio, and the examples of all of them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, needs

from grepq_iqa import GRepQ, ImageError, LabelsError, UsageError
from grepq_iqa.integrations import fiftyone, label_studio
from grepq_iqa.integrations.result_rows import read_rows

OPTIONS = {"device": "cpu", "dtype": "float32"}

EXAMPLES = sorted((REPOSITORY / "examples" / "photos").glob("*.jpg"))


@pytest.fixture
def images():
    torch = needs("torch")
    return torch.rand(7, 3, 96, 112, generator=torch.manual_seed(3))


@pytest.fixture
def expected(tiny_model, images):
    model = GRepQ.from_pretrained(tiny_model, **OPTIONS)
    return [model.score(image).score for image in images]


def metric_of(tiny_model, **more):
    needs("torchmetrics")
    from grepq_iqa.integrations import GRepQMetric

    return GRepQMetric(str(tiny_model), scorer=OPTIONS, **more)


def test_the_metric_is_the_mean_however_images_are_batched(tiny_model, images, expected):
    for sizes in ((7,), (1, 6), (3, 3, 1)):
        metric = metric_of(tiny_model)
        for part in images.split(list(sizes)):
            metric.update(part)
        assert float(metric.compute()) == pytest.approx(sum(expected) / 7, abs=1e-5)
    metric.reset()
    assert float(metric(images[0])) == pytest.approx(expected[0], abs=1e-5)  # forward: of this batch
    metric(images[1:])
    assert float(metric.compute()) == pytest.approx(sum(expected) / 7, abs=1e-5)  # and of all


def test_states_of_processes_add_up(tiny_model, images, expected):
    one, other = metric_of(tiny_model), pickle.loads(pickle.dumps(metric_of(tiny_model)))
    one.update(images[:2])
    other.update(images[2:])
    one.merge_state(other)
    assert float(one.compute()) == pytest.approx(sum(expected) / 7, abs=1e-5)


TOGETHER = """
import sys, torch
import torch.distributed as dist
from grepq_iqa.integrations import GRepQMetric
rank, port, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
images = torch.rand(7, 3, 96, 112, generator=torch.manual_seed(3))
mean = GRepQMetric(model, scorer={"device": "cpu", "dtype": "float32"})
each = GRepQMetric(model, "none", scorer={"device": "cpu", "dtype": "float32"})
for metric in (mean, each):
    metric.update(images[:2] if rank == 0 else images[2:])
print(float(mean.compute()), sorted(each.compute().tolist()))
dist.destroy_process_group()
"""


def test_two_processes_see_the_mean_of_all(tiny_model, expected):
    needs("torchmetrics")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, str(rank), port, str(tiny_model)], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[0].decode().split(" ", 1) for process in processes]
    for mean, each in told:
        assert float(mean) == pytest.approx(sum(expected) / 7, abs=1e-5)
        assert json.loads(each) == pytest.approx(sorted(expected), abs=1e-5)


def test_single_scores_and_what_is_refused(tiny_model, images, expected):
    torch = needs("torch")
    metric = metric_of(tiny_model, reduction="none")
    metric.update((images[:2] * 255).round().byte())
    metric.update(images[2:])
    assert metric.compute().tolist() == pytest.approx(expected, abs=2e-3)
    metric = metric_of(tiny_model)
    metric.update(images[:1])
    with pytest.raises(ImageError, match=r"0\.\.1"):
        metric.update(images * 255)
    assert float(metric.compute()) == pytest.approx(expected[0], abs=1e-5)  # as if nothing had been
    assert torch.isnan(metric_of(tiny_model).compute())  # of no images
    with pytest.raises(UsageError, match="reduction"):
        metric_of(tiny_model, reduction="sum")


@pytest.fixture
def predictions(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "path,mos,low,high,warnings,error\n"
        "a b/ü.jpg,63.25,50,75.5,clipped; flat,\n"
        "broken.jpg,,,,,is empty\n"
        "/photos/c.jpg,12.5,1,30,,\n",
        encoding="utf-8",
    )
    return path


def test_rows_are_read_back(predictions, tmp_path):
    rows = read_rows(predictions)
    assert [row["path"] for row in rows] == [
        str(Path(p).absolute()) for p in ("a b/ü.jpg", "broken.jpg", "/photos/c.jpg")
    ]
    assert rows[0] | {"path": ""} == {"path": "", "mos": 63.25, "low": 50, "high": 75.5, "warnings": "clipped; flat"}
    (tmp_path / "labels.csv").write_text("image,rating\na.jpg,3\n")
    with pytest.raises(LabelsError, match="not rows of"):
        read_rows(tmp_path / "labels.csv")
    with pytest.raises(LabelsError):
        read_rows(tmp_path / "gone.csv")


def test_fiftyone_gets_samples(predictions, tmp_path):
    assert fiftyone.write_dataset(predictions, tmp_path / "dataset") == 3
    samples = json.loads((tmp_path / "dataset" / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert [Path(sample["filepath"]).name for sample in samples] == ["ü.jpg", "broken.jpg", "c.jpg"]
    assert all(Path(sample["filepath"]).is_absolute() for sample in samples)
    assert samples[0]["grepq_mos"] == 63.25 and samples[0]["tags"] == []
    assert samples[1]["tags"] == ["grepq_unusable"] and samples[1]["grepq_error"] == "is empty"
    assert not any(value is None for sample in samples for value in sample.values())
    metadata = json.loads((tmp_path / "dataset" / "metadata.json").read_text())
    assert metadata["media_type"] == "image" and "version" not in metadata  # a version would mean MongoDB's documents
    fiftyone.write_dataset(predictions, tmp_path / "dataset")  # ours may be written anew
    (tmp_path / "dataset" / "metadata.json").write_text('{"name": "mine"}')
    with pytest.raises(UsageError, match="someone else"):
        fiftyone.write_dataset(predictions, tmp_path / "dataset")


def test_label_studio_gets_tasks_and_gives_labels(predictions, tmp_path):
    tasks = label_studio.tasks(predictions, label_studio.local_file_url("."))
    assert len(tasks) == 2  # what cannot be shown cannot be rated
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=a%20b/%C3%BC.jpg"
    result = tasks[0]["predictions"][0]["result"][0]
    assert result == {"from_name": "mos", "to_name": "image", "type": "number", "value": {"number": 63.25}}
    assert 'name="mos"' in label_studio.INTERFACE and 'toName="image"' in label_studio.INTERFACE

    def answer(number):
        return {"result": [result | {"value": {"number": number}}]}

    export = [
        tasks[0] | {"annotations": [answer(70), answer(80), answer(1) | {"was_cancelled": True}]},
        tasks[1] | {"annotations": [{"result": []}]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(export))
    path = tasks[0]["data"]["path"]
    assert label_studio.labels(tmp_path / "export.json") == [(path, 70.0), (path, 80.0)]
    (tmp_path / "other.json").write_text('{"tasks": 3}')
    for name in ("other.json", "gone.json"):
        with pytest.raises(LabelsError, match=name):
            label_studio.labels(tmp_path / name)


def example(name, *arguments, environment=None):
    command = [sys.executable, str(REPOSITORY / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("datasets", "pandas")
def test_the_example_of_batches(tmp_path):
    printed = example("map_over_batches.py", environment=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    lines = [line.split() for line in printed.splitlines()]
    of = {
        name: {word[1]: float(word[2]) for word in lines if word[0] == name} for name in ("loop", "datasets", "spark")
    }
    assert set(of["loop"]) == {photo.name for photo in EXAMPLES}
    assert of["loop"] == pytest.approx(of["datasets"], abs=2e-3) and of["loop"] == pytest.approx(of["spark"], abs=2e-3)


@pytest.mark.needs("torchmetrics")
def test_the_example_of_the_metric():
    printed = example("torchmetrics_metric.py")
    assert printed.startswith("mean score of 4 images")
    clean, noisy = printed.splitlines()[1].removeprefix("the last one clean ").split(", with noise ")
    assert float(clean) > float(noisy)


def test_the_example_of_other_tools(tmp_path):
    example("other_tools.py", tmp_path)
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == len(EXAMPLES)
    assert (tmp_path / "labels.csv").read_text().count("\n") == len(EXAMPLES) + 1
    assert (tmp_path / "fiftyone" / "samples.json").exists()


@pytest.mark.slow
@pytest.mark.needs("ray", "pyarrow")
def test_the_example_of_ray():
    folder = tempfile.mkdtemp(prefix="gr", dir="/tmp")  # a short name: Ray's sockets lie there
    try:
        printed = example(
            "ray_data.py", environment=os.environ | {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert {line.split()[0] for line in printed.splitlines() if ".jpg" in line} == {photo.name for photo in EXAMPLES}
