"""`grepq score-many` on a real Ray of this machine with two workers: local folders and a loopback S3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from cluster_inputs import make_pictures, write_files
from conftest import needs

from grepq_iqa import GRepQ
from grepq_iqa.batch import score_paths
from grepq_iqa.errors import UsageError
from grepq_iqa.integrations.cluster.run import ray_session

needs("ray")
needs("s3fs")

import pyarrow.dataset as ds
import pyarrow.parquet as pq

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment():
    """Of the program: a session folder of its own, by a short name, since Ray's sockets lie in it."""
    folder = tempfile.mkdtemp(prefix="gr", dir="/tmp")
    yield os.environ | {"RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": ""}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3():
    """A loopback S3: the environment that points at it, and a file system."""
    server = needs("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Buckets are the process's, so that another file's server may have left some.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    variables = names | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    import s3fs

    files = s3fs.S3FileSystem(
        key="test", secret="test", endpoint_url=variables["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )
    files.mkdir("photos")
    yield variables, files
    server.stop()


def command(tiny_model, *arguments):
    options = ("--model", tiny_model, "--workers", 2, "--device", "cpu", "--dtype", "float32")
    return [sys.executable, "-m", "grepq_iqa", "score-many", *map(str, (*arguments, *options))]


def run(tiny_model, environment, *arguments, status=1):
    done = subprocess.run(command(tiny_model, *arguments), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status != 2 else done.stderr


def rows(output, filesystem=None):
    table = ds.dataset(str(output), partitioning="hive", filesystem=filesystem).to_table()
    return sorted(table.to_pylist(), key=lambda row: row["path"])


def one_machine(tiny_model, folder):
    model = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")
    return list(score_paths(model, sorted(folder.rglob("*.jpg"))))


def assert_equal(found, expected, prefix=""):
    assert [row["path"] for row in found] == [prefix + one.path for one in expected]  # all, each once
    for row, one in zip(found, expected, strict=True):
        assert row["error"] == one.error
        for name in ("score", "low_level", "high_level"):
            wanted = None if one.score is None else getattr(one.score, name)
            assert row[name] == (wanted if wanted is None else pytest.approx(wanted, abs=1e-5)), row["path"]
        assert row["warnings"] == ("; ".join(one.score.warnings) if one.score else "")


def workers(output):
    """The processes that have written fragments, by their own account."""
    files = Path(output).rglob("part-*.parquet")
    return {json.loads(pq.read_schema(file).metadata[b"grepq_iqa.fragment"])["worker"] for file in files}


def test_sixty_pictures_a_bucket_and_going_on(tiny_model, photos, environment, s3, tmp_path):
    variables, files = s3
    folder = tmp_path / "in"
    pictures = make_pictures(photos, 60)
    write_files(pictures, folder)
    for name, content in pictures.items():
        files.pipe_file(f"photos/in/{name}", content)
    expected = one_machine(tiny_model, folder)
    bad = sum(one.error is not None for one in expected)

    environment = environment | variables
    arguments = ("s3://photos/in", "--output", "s3://photos/scores", "--fragment-size", 7)
    told = run(tiny_model, environment, *arguments)
    assert told == {"images": 60, "failed": bad, "fragments": 9, "done_before": 0, "missing": 0}
    found = [row | {"path": row["path"].replace("s3://photos/in", str(folder))} for row in rows("photos/scores", files)]
    assert_equal(found, expected)

    assert "--resume" in run(tiny_model, environment, *arguments, status=2)
    files.rm("photos/scores/shard=000000/part-00000003.parquet")
    files.rm("photos/scores/shard=000000/part-00000008.parquet")
    told = run(tiny_model, environment, *arguments, "--resume")
    assert (told["images"], told["fragments"], told["done_before"], told["missing"]) == (11, 2, 7, 0)
    assert len(rows("photos/scores", files)) == 60


@pytest.mark.parametrize("model", ["tiny", "none"])
def test_what_is_wrong_with_the_model_is_one_sentence(model, tiny_model, environment, photos, tmp_path):
    write_files(make_pictures(photos, 3), tmp_path / "in")
    options = (tmp_path / "in", "--output", tmp_path / "out", "--predict")
    message = run(tiny_model if model == "tiny" else tmp_path / "none", environment, *options, status=2)
    assert message.splitlines()[-1].startswith("grepq: ") and "Traceback" not in message
    assert ("has seen no labels" if model == "tiny" else "none") in message
    assert not (tmp_path / "out").exists()


def test_two_thousand_pictures_and_a_worker_that_is_killed(tiny_model, photos, environment, tmp_path):
    """Equal to one machine row by row; nothing is lost, nothing is there twice, and no worker's memory holds it all."""
    folder, output = tmp_path / "in", tmp_path / "out"
    write_files(make_pictures(photos, 2000), folder)
    arguments = command(tiny_model, folder, "--output", output, "--fragment-size", 25)
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        victim = None
        while process.poll() is None and victim is None:
            time.sleep(0.05)
            finished = list(output.rglob("part-*.parquet"))
            if len(finished) >= 6:
                victim = int(sorted(workers(output))[0].split(":")[1])
                started = [p.read_text() for p in (output / "_grepq" / "started").iterdir()]
                os.kill(victim, signal.SIGKILL)
        out, err = process.communicate(timeout=400)
    assert victim is not None, "the run ended before a worker could be killed"
    assert len(finished) < 70, "the kill came too late to tell anything"
    told = json.loads(out)
    assert process.returncode == 1 and told["missing"] == 0, err.decode()
    assert len(workers(output)) == 3, "the killed worker was replaced"
    assert started
    expected = one_machine(tiny_model, folder)
    assert sum(one.error is not None for one in expected) == 200
    assert_equal(rows(output), expected)
    assert not list((output / "_grepq" / "started").iterdir())
    # The object store is 100 MiB, decoded the pictures are twice that, and nothing was moved from it to the disk.
    spilled = Path(environment["RAY_TMPDIR"]).rglob("ray_spilled_objects*/*")
    assert not list(spilled)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_a_sentence_at_once(scheme):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"), ray_session(address, None):
            pass
