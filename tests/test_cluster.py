"""Scoring on many machines, without machines: plans, fragments, storage, and what happens to a run."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.request import Request, urlopen

import numpy as np
import pytest
from cluster_inputs import make_pictures, write_files, write_tar
from conftest import needs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grepq_iqa import GRepQ, UsageError
from grepq_iqa.batch import score_paths
from grepq_iqa.integrations import Scorer

pa = needs("pyarrow")
needs("fsspec")

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from grepq_iqa.integrations.cluster import reading
from grepq_iqa.integrations.cluster import run as cluster
from grepq_iqa.integrations.cluster.fragments import METADATA, PROVENANCE, place, score_fragment
from grepq_iqa.integrations.cluster.plan import Input, cut, iter_inputs, read_fragment, write_plan
from grepq_iqa.integrations.cluster.storage import Storage

COUNT = 24


@pytest.fixture(scope="module")
def pictures(photos):
    return make_pictures(photos, COUNT)


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_files(pictures, folder)
    return folder


@pytest.fixture
def scorer(tiny_model):
    return Scorer(str(tiny_model), threads=None, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def expected(folder, pictures, tiny_model):
    """Score and error of every picture, by name, as one machine finds them."""
    model = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")
    results = score_paths(model, [folder / name for name in sorted(pictures)])
    return {
        name: (None if one.score is None else one.score.score, one.error)
        for name, one in zip(sorted(pictures), results, strict=True)
    }


def settings_of(model):
    return {"model": model.name, "encoder_hash": model.encoder_hash, "engine": "torch", "dtype": "float32"}


def work(inputs, output, scorer, *, size=5, **more):
    """A run in this process: planned, worked through, and its rows."""
    settings = settings_of(scorer.load()) | more
    run = cluster.prepare([str(one) for one in inputs], Storage(str(output)), settings, size)
    done = [score_fragment(run.output, i, scorer, run.settings) for i in run.todo]
    return run, done


def rows(output, filesystem=None):
    return ds.dataset(str(output), partitioning="hive", filesystem=filesystem).to_table().to_pylist()


def check(found, expected, name_of):
    """Every picture once, with the score and the error of one machine."""
    assert sorted(name_of(row["path"]) for row in found) == sorted(expected)
    for row in found:
        score, error = expected[name_of(row["path"])]
        assert (row["score"] is None) == (score is None)
        if score is not None:
            assert row["score"] == pytest.approx(score, abs=1e-5)
        assert (row["error"] is None) == (error is None)


def test_a_folder_gives_the_rows_of_one_machine(folder, tmp_path, scorer, expected):
    run, done = work([folder], tmp_path / "out", scorer)
    assert run.fragments == 5 and run.files == COUNT
    found = rows(tmp_path / "out")
    check(found, expected, lambda path: str(Path(path).relative_to(folder)))
    assert {row["path"]: row["error"] for row in found} == {
        str(folder / name): error for name, (_, error) in expected.items()
    }
    assert sum(one.rows for one in done) == COUNT
    assert sum(one.failed for one in done) == sum(error is not None for _, error in expected.values())


def test_every_file_tells_the_settings_of_the_run(folder, tmp_path, scorer):
    work([folder], tmp_path / "out", scorer)
    for i in range(5):
        metadata = pq.read_schema(tmp_path / "out" / "/".join(place(i))).metadata
        told = json.loads(metadata[METADATA])
        assert told["command"] == "score-many" and told["generator"].startswith("made by grepq-iqa")
        assert told["settings"]["encoder_hash"] == scorer.load().encoder_hash
        assert json.loads(metadata[PROVENANCE])["fragment"] == i
    assert json.loads((tmp_path / "out/_grepq/run.json").read_text())["settings"] == told["settings"]


def parquet_of_bytes(pictures, path):
    names = sorted(pictures)
    table = pa.table({"label": list(range(len(names))), "image": [pictures[name] for name in names]})
    pq.write_table(table, path, row_group_size=4)


def parquet_of_hugging_face(pictures, path):
    pq.write_table(pa.table({"image": [{"bytes": pictures[n], "path": n} for n in sorted(pictures)]}), path)


def arrow_file(pictures, path):
    table = pa.table({"jpg": [pictures[name] for name in sorted(pictures)]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def arrow_stream(pictures, path):
    table = pa.table({"bytes": pa.array([pictures[name] for name in sorted(pictures)], pa.large_binary())})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("write", [parquet_of_bytes, parquet_of_hugging_face, arrow_file, arrow_stream])
def test_tables_of_pictures(write, pictures, tmp_path, scorer, expected, monkeypatch):
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 5)
    path = tmp_path / ("table.arrow" if "arrow" in write.__name__ else "table.parquet")
    write(pictures, path)
    run, _ = work([path], tmp_path / "out", scorer, size=9)
    assert run.fragments == (3 if write is parquet_of_bytes else 1)  # row groups of 4 make 8 pictures
    names = sorted(pictures)
    check(rows(tmp_path / "out"), expected, lambda name: names[int(name.removeprefix(f"{path}#"))])


def test_a_table_of_paths_relative_to_it(pictures, folder, tmp_path, scorer, expected):
    names = sorted(pictures)
    pq.write_table(pa.table({"path": names[:12] + [str(folder / n) for n in names[12:]]}), folder / "list.parquet")
    try:
        work([folder / "list.parquet"], tmp_path / "out", scorer)
    finally:
        (folder / "list.parquet").unlink()
    check(rows(tmp_path / "out"), expected, lambda name: names[int(name.split("#")[1])])


@pytest.mark.parametrize("ending", ["tar", "tgz", "tar.gz"])
def test_tars_of_pictures(ending, pictures, tmp_path, scorer, expected):
    path = tmp_path / f"shard.{ending}"
    write_tar(pictures, path)
    work([tmp_path / "shard.*"], tmp_path / "out", scorer)
    check(rows(tmp_path / "out"), expected, lambda name: name.removeprefix(f"{path}#"))


def test_damaged_containers_keep_what_was_read(pictures, tmp_path, scorer):
    write_tar(pictures, tmp_path / "in.tar")
    whole = (tmp_path / "in.tar").read_bytes()
    with tarfile.open(tmp_path / "in.tar") as archive:
        third = archive.getmembers()[4].offset_data
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(whole[: third + 10])
    (tmp_path / "in" / "b.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "in" / "c.parquet").write_bytes(b"PAR1 no table")
    (tmp_path / "in" / "d.arrow").write_bytes(b"ARROW1 no table")
    (tmp_path / "in" / "e.tgz").write_bytes(b"\x1f\x8b\x08 no table")
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "in" / "f.parquet")
    _, done = work([tmp_path / "in"], tmp_path / "out", scorer)
    assert all(one.error is None for one in done)
    errors = {row["path"].removeprefix(f"{tmp_path}/in/"): row["error"] for row in rows(tmp_path / "out")}
    assert [name for name, error in errors.items() if error is None] == [f"a.tar#{n}" for n in sorted(pictures)[:2]]
    assert set(errors) >= {"a.tar", "b.tar", "c.parquet", "d.arrow", "e.tgz", "f.parquet"}
    assert "--column" in errors["f.parquet"] and "breaks off" in errors["c.parquet"]


def test_a_run_goes_on_and_does_nothing_twice(folder, tmp_path, scorer):
    output = tmp_path / "out"
    run, _ = work([folder], output, scorer)
    files = sorted(output.rglob("part-*.parquet"))
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    lost = files.pop(2)
    lost.unlink()
    # what a worker that died leaves is gone, too, before the run goes on
    (output / "_grepq" / "started" / "00000002").write_text("elsewhere:1")
    again, done = work([folder], output, scorer, size=99)
    assert again.todo == [2] and [one.fragment for one in done] == [2]
    assert not list((output / "_grepq" / "started").iterdir())
    assert lost.exists()
    assert all((file.stat().st_mtime_ns, file.read_bytes()) == before[file] for file in files)
    assert score_fragment(run.output, 0, scorer, run.settings).rows == 0  # asked for again, it is there


def test_the_plan_stays_when_inputs_are_added(pictures, tmp_path, scorer):
    write_files(pictures, tmp_path / "in")
    work([tmp_path / "in"], tmp_path / "out", scorer)
    (tmp_path / "in" / "000" / "00000a.jpg").write_bytes(next(iter(pictures.values())))
    run, done = work([tmp_path / "in"], tmp_path / "out", scorer)
    assert not done and run.files == COUNT


def test_other_settings_do_not_go_on(folder, tmp_path, scorer):
    work([folder], tmp_path / "out", scorer)
    with pytest.raises(UsageError, match=r"other settings .*features"):
        work([folder], tmp_path / "out", scorer, features=True)
    with pytest.raises(UsageError, match="inputs"):
        work([folder / "000"], tmp_path / "out", scorer)


def test_outputs_that_are_refused(folder, tmp_path, scorer):
    work([folder], tmp_path / "out", scorer)
    with pytest.raises(UsageError, match="--resume"):
        cluster.require_output(Storage(str(tmp_path / "out")), [str(folder)], resume=False)
    cluster.require_output(Storage(str(tmp_path / "out")), [str(folder)], resume=True)
    with pytest.raises(UsageError, match="not empty"):
        cluster.require_output(Storage(str(folder / "000")), [str(tmp_path)], resume=False)
    with pytest.raises(UsageError, match="input and the output"):
        cluster.require_output(Storage(str(folder)), [str(folder)], resume=False)
    with pytest.raises(UsageError, match="no run to go on"):
        cluster.require_output(Storage(str(tmp_path / "new")), [str(folder)], resume=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        cluster.require_output(Storage(str(tmp_path / "file")), [str(folder)], resume=False)
    cluster.require_output(Storage(str(tmp_path / "new")), [str(folder)], resume=False)


def test_inputs_that_are_not_there(tmp_path, scorer):
    with pytest.raises(UsageError, match="no such file"):
        work([tmp_path / "gone"], tmp_path / "out", scorer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        work([tmp_path / "empty"], tmp_path / "out", scorer)
    with pytest.raises(UsageError, match="zzz"):
        Storage("zzz://bucket/key")


def test_an_output_below_the_inputs_is_no_input(pictures, tmp_path, scorer):
    write_files(pictures, tmp_path)
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "thumbnail.jpg").write_bytes(b"")
    work([tmp_path], tmp_path / "scores", scorer)
    assert len(list(iter_inputs(str(tmp_path), Storage(str(tmp_path / "scores"))))) == COUNT


KILLER = b"ends the process"


class KillsItsProcess(Scorer):
    """A scorer whose model is ended by one picture, as a decoder with a fault is."""

    def stream(self, sources, **options):
        def watched():
            for name, source in sources:
                content = Path(source).read_bytes() if isinstance(source, str) else b""
                if content == KILLER:
                    os._exit(9)
                yield name, source

        return super().stream(watched(), **options)


def test_a_picture_that_ends_its_process_becomes_a_row(pictures, tmp_path, tiny_model):
    """The mark of a worker that died in the fragment is there, so each picture goes through a process of its own."""
    write_files(dict(list(pictures.items())[:3]), tmp_path / "in")
    (tmp_path / "in" / "000" / "00001a.jpg").write_bytes(KILLER)
    scorer = KillsItsProcess(str(tiny_model), threads=1, device="cpu", dtype="float32")
    settings = settings_of(scorer.load())
    run = cluster.prepare([str(tmp_path / "in")], Storage(str(tmp_path / "out")), settings, 10)
    Storage(run.output).write(b"elsewhere:1", "_grepq", "started", f"{0:08d}")
    done = score_fragment(run.output, 0, scorer, settings)
    assert (done.rows, done.failed) == (4, 1)
    errors = [row["error"] for row in rows(tmp_path / "out")]
    assert [error is None for error in errors] == [True, True, False, True]
    assert "the process that read this picture ended" in errors[2]


def test_a_fragment_that_ends_every_worker_is_left(folder, tmp_path, scorer):
    settings = settings_of(scorer.load())
    run = cluster.prepare([str(folder)], Storage(str(tmp_path / "out")), settings, 10)
    Storage(run.output).write(b"a:1\nb:2\nc:3\n", "_grepq", "started", f"{1:08d}")
    done = [score_fragment(run.output, i, scorer, settings) for i in run.todo]
    assert [one.rows for one in done] == [10, 0, 4]
    assert "3 workers ended while they read it" in done[1].error and str(folder) in done[1].error
    again = cluster.prepare([str(folder)], Storage(run.output), settings, 10)
    assert again.todo == [1]
    assert score_fragment(run.output, 1, scorer, settings).rows == 10  # the next run tries anew


def test_storage_that_fails_is_no_fault_of_a_picture(folder, tmp_path, scorer, monkeypatch):
    """An output that cannot be written: no file, the fragment's error, and the next run does it."""
    from grepq_iqa.integrations.cluster import fragments

    monkeypatch.setattr(fragments, "_PAUSE", 0.0)
    output = tmp_path / "out"
    settings = settings_of(scorer.load())
    run = cluster.prepare([str(folder)], Storage(str(output)), settings, 10)
    (output / "shard=000000").write_text("in the way")
    done = score_fragment(run.output, 0, scorer, settings)
    assert done.rows == 0 and "storage cannot be read or written" in done.error
    (output / "shard=000000").unlink()
    assert score_fragment(run.output, 0, scorer, settings).rows == 10


class Answers(BaseHTTPRequestHandler):
    """A server of pictures, some of which it does not give."""

    asked: ClassVar[Counter[str]] = Counter()
    folder: ClassVar[Path]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked[name] += 1
        status = {"forbidden.png": 403, "teapot.png": 418, "gone.png": 410, "broken.png": 503}.get(name, 200)
        if name == "busy.png" and self.asked[name] == 1:
            status = 429
        body = (self.folder / "a.png").read_bytes() if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_one_url_costs_its_row_only(tmp_path, scorer, monkeypatch):
    pytest.importorskip("aiohttp")
    from grepq_iqa.integrations.cluster import reading

    monkeypatch.setattr(reading, "_PAUSE", 0.01)
    Image.effect_noise((100, 100), 40).convert("RGB").save(tmp_path / "a.png")
    Answers.folder = tmp_path
    Answers.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        names = ["a.png", "forbidden.png", "teapot.png", "gone.png", "broken.png", "busy.png"]
        pq.write_table(pa.table({"path": [f"{base}/{name}" for name in names]}), tmp_path / "urls.parquet")
        _, done = work([tmp_path / "urls.parquet"], tmp_path / "out", scorer)
    finally:
        server.shutdown()
        server.server_close()
    assert [one.error for one in done] == [None] * len(done) and sum(one.rows for one in done) == 6
    errors = {str(row["error"]) for row in rows(tmp_path / "out")}
    assert errors == {
        *("None", "permission denied", "the server answered 418", "does not exist"),
        "the server answered 503 3 times",
    }
    assert Answers.asked["broken.png"] == 3


def test_clients_of_servers_raise_what_disks_raise():
    from grepq_iqa.integrations.cluster.storage import Busy, Refused, told_as_os_errors

    class NoCredentialsError(Exception):
        pass

    class ConnectionClosedError(Exception):
        pass

    class Answered(Exception):
        def __init__(self, status: int) -> None:
            self.status = status

    cases = [
        (NoCredentialsError("Unable to locate credentials"), UsageError),
        (ConnectionClosedError("closed"), OSError),
        *((Answered(status), kind) for status, kind in (
            (401, PermissionError), (404, FileNotFoundError), (418, Refused), (429, Busy), (500, Busy)
        )),
        (MemoryError(), MemoryError),
        (FileNotFoundError("x"), FileNotFoundError),
    ]  # fmt: skip
    for raised, told in cases:
        with pytest.raises(told) as caught, told_as_os_errors("s3://bucket/key"):
            raise raised
        assert type(caught.value) is told


def test_folders_that_a_pattern_matches_are_gone_into(pictures, folder, tmp_path, scorer):
    for year in ("2023", "2024-01", "2024-02"):
        (tmp_path / "trips" / year).mkdir(parents=True)
        Image.effect_noise((100, 100), 40).convert("RGB").save(tmp_path / "trips" / year / f"{year}.png")
    Image.effect_noise((100, 100), 30).convert("RGB").save(tmp_path / "trips" / "2024-top.png")
    work([f"{tmp_path}/trips/2024-*"], tmp_path / "out", scorer)
    assert sorted(Path(row["path"]).name for row in rows(tmp_path / "out")) == [
        "2024-01.png", "2024-02.png", "2024-top.png",
    ]  # fmt: skip


def test_a_worker_with_other_weights_is_refused(scorer):
    from grepq_iqa.integrations.cluster.fragments import check_model

    check_model(scorer, settings_of(scorer.load()))
    with pytest.raises(UsageError, match="other weights"):
        check_model(scorer, settings_of(scorer.load()) | {"encoder_hash": "0" * 64})


kinds = st.lists(st.sampled_from(["image", "tar", "arrow"]), min_size=1, max_size=300)


@given(kinds, st.integers(1, 40))
def test_a_plan_holds_every_input_once(kinds, size):
    inputs = [Input(kind, f"{i}", i) for i, kind in enumerate(kinds)]
    fragments = list(cut(iter(inputs), size))
    assert sorted((one for fragment in fragments for one in fragment), key=lambda one: one.size) == inputs
    assert all(len(fragment) == 1 or {one.kind for one in fragment} == {"image"} for fragment in fragments)
    assert all(len(fragment) <= size for fragment in fragments)
    assert fragments == list(cut(iter(inputs), size))


def test_a_plan_is_read_back_as_it_was_made(tmp_path):
    fragments = [tuple(Input("image", f"{i}/{j}.jpg", j) for j in range(i % 3 + 1)) for i in range(250)]
    assert write_plan(Storage(str(tmp_path)), iter(fragments)) == (250, sum(map(len, fragments)))
    assert len(list((tmp_path / "_grepq" / "plan").iterdir())) == 3
    for i in (0, 99, 100, 101, 249):
        assert read_fragment(str(tmp_path), i) == fragments[i]


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A loopback S3, and the environment that points at it."""
    needs("s3fs")
    server_module = needs("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Buckets are the process's, so that another file's server may have left some.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        Storage("s3://photos").fs.mkdir("photos")
        yield Storage("s3://photos").fs
    server.stop()


def test_a_bucket_in_and_a_bucket_out(s3, pictures, tmp_path, scorer, expected):
    for name, content in pictures.items():
        s3.pipe_file(f"photos/in/{name}", content)
    write_tar(pictures, tmp_path / "a.tar")
    parquet_of_bytes(pictures, tmp_path / "a.parquet")
    s3.put_file(str(tmp_path / "a.tar"), "photos/more/a.tar")
    s3.put_file(str(tmp_path / "a.parquet"), "photos/more/a.parquet")
    run, done = work(["s3://photos/in"], "s3://photos/scores", scorer, size=10)
    assert run.output == "s3://photos/scores" and [one.error for one in done] == [None] * 3
    check(rows("photos/scores", s3), expected, lambda path: path.removeprefix("s3://photos/in/"))
    _, done = work(["s3://photos/in"], "s3://photos/scores", scorer, size=10)
    assert not done
    work(["s3://photos/more"], "s3://photos/more-scores", scorer)
    found = rows("photos/more-scores", s3)
    check([r for r in found if ".tar" in r["path"]], expected, lambda path: path.split("#")[1])
    names = sorted(pictures)
    check([r for r in found if ".parquet" in r["path"]], expected, lambda path: names[int(path.split("#")[1])])
    rows_of_scorer = scorer({"path": [f"s3://photos/in/{names[0]}", "s3://photos/in/gone.jpg"]})
    assert rows_of_scorer["error"][0] is None and rows_of_scorer["error"][1] == "does not exist"
    assert np.isfinite(rows_of_scorer["score"][0])


def test_a_bucket_that_is_not_there(s3, tmp_path, scorer):
    with pytest.raises((UsageError, OSError)):
        work(["s3://no-such-bucket/in"], tmp_path / "out", scorer)
