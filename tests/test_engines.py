"""Engines: torch and ONNX Runtime give the same, and the latter does without torch."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs

from grepq_iqa import GRepQ, UsageError, WeightsError, devices
from grepq_iqa.data.images import load_image
from grepq_iqa.encoders import engine_choice
from grepq_iqa.encoders.engine_choice import TOLERANCE, choose_engine
from grepq_iqa.feature_cache import model_key

needs("onnxruntime")
onnx = needs("onnx")

from grepq_iqa.encoders import onnx_export
from grepq_iqa.encoders.onnx_engine import FLOAT_GRAPH, INT8_GRAPH, OnnxEngine
from grepq_iqa.weights import resolve
from grepq_iqa.weights.loading import load_components

ODD_SIZES = [
    (97, 133),
    (133, 97),
    (96, 211),
    (131, 257),
    (255, 256),
    (257, 255),
    (357, 411),
    (333, 500),
    (499, 375),
    (1024, 683),
]


@pytest.fixture(scope="module")
def float_graph(tmp_path_factory) -> Path:
    """The bundled model's float32 graph."""
    found = resolve(None)
    parts = load_components(found.name, found.files)
    target = tmp_path_factory.mktemp("graph") / FLOAT_GRAPH
    onnx_export.export_float(parts.low_level, parts.high_level, target, patch=96, encoder_hash=parts.encoder_hash)
    return target


@pytest.fixture(scope="module")
def int8() -> GRepQ:
    return GRepQ.from_pretrained(engine="onnx")


@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_the_float_graph_equals_torch_at_odd_sizes(compact, float_graph, size):
    """Traced at another size: "same" padding and the center's weight must follow the picture's."""
    image = np.random.default_rng(sum(size)).random((1, 3, *size), dtype=np.float32)
    want = compact.engine.encode(image)
    got = OnnxEngine(float_graph, compact.encoder_hash, "float32").encode(image)
    scale = compact.feature_scale
    width = want.high.shape[1]
    assert np.abs((got.high - want.high) / scale[:width]).max() < 1e-3
    np.testing.assert_allclose(got.high, want.high, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.low, want.low, rtol=1e-4, atol=1e-4)
    for a, b in zip(got.patches[0], want.patches[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4)


def test_a_batch_is_its_pictures(int8):
    images = np.random.default_rng(0).random((3, 3, 140, 101), dtype=np.float32)
    together = int8.engine.encode(images)
    for i, image in enumerate(images):
        alone = int8.engine.encode(image[None])
        np.testing.assert_allclose(together.high[i], alone.high[0], atol=1e-4)
        np.testing.assert_allclose(together.low[i], alone.low[0], atol=1e-4)


@pytest.mark.parametrize("command", ["score", "predict"])
def test_the_program_scores_without_torch(photos, command):
    """Nor are the other heavy libraries imported."""
    code = (
        "import sys\n"
        "from grepq_iqa.cli import run\n"
        f"sys.argv = ['grepq', '{command}', sys.argv[1], '--engine', 'onnx', '--format', 'jsonl']\n"
        "try:\n    run()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'torchvision', 'open_clip', 'sklearn', 'scipy', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(photos[0])], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] is None


def test_reasons_and_maps_need_no_torch(photos, tmp_path):
    code = (
        "import sys\n"
        "from grepq_iqa.cli import run\n"
        "sys.argv = ['grepq', 'explain', sys.argv[1], '--engine', 'onnx', '--map', sys.argv[2]]\n"
        "try:\n    run()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(photos[0]), str(tmp_path / "map.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").stat().st_size


def test_int8_scores_are_those_of_float32(compact, int8, photos):
    for exact, quick in zip(compact.score(photos), int8.score(photos), strict=True):
        assert quick.score == pytest.approx(exact.score, abs=0.1)
        assert quick.warnings == exact.warnings
    apart = onnx_export.disagreement(int8.features(photos), compact.features(photos), compact.feature_scale)
    assert apart < TOLERANCE and int8.engine.agreement < TOLERANCE


@pytest.mark.parametrize("family", ["gaussian_blur", "white_noise", "jpeg", "underexposure"])
def test_int8_sees_every_step_of_a_distortion(compact, int8, photos, family):
    """Light distortions, too: Q falls where float32's falls. ``studies/severity_series.py`` has 40 photographs."""
    from grepq_iqa.training.data.distortions import SEVERITIES, distort

    sharp = load_image(photos[1])[:, 40:296, 60:316].permute(1, 2, 0).contiguous().numpy()
    copies = [sharp, *(distort(sharp, family, severity, np.random.default_rng(0)) for severity in SEVERITIES)]
    pictures = [np.round(copy * 255).astype(np.uint8) for copy in copies]
    exact, quick = ([score.score for score in model.score(pictures)] for model in (compact, int8))
    clear = np.diff(exact) < -0.02  # what float32 itself is sure of
    assert clear.sum() >= 3
    assert (np.diff(quick)[clear] < 0).all()


def test_features_of_engines_are_kept_apart(compact, int8):
    assert model_key(compact) != model_key(int8)
    assert compact.features_hash == compact.encoder_hash == int8.encoder_hash != int8.features_hash


def test_resume_compares_the_engine(grepq, photos, tmp_path):
    rows = tmp_path / "rows.csv"
    assert grepq("score", photos[0], "-o", rows, "--engine", "onnx")[0] == 0
    status, _, err = grepq("score", *photos[:2], "-o", rows, "--resume", "--engine", "torch")
    assert status == 2 and "engine onnx, now torch" in err
    assert grepq("score", *photos[:2], "-o", rows, "--resume", "--engine", "onnx")[0] == 0
    with rows.open() as stream:
        assert len(list(csv.DictReader(stream))) == 2


@pytest.fixture(scope="module")
def fitted(int8, photos, tmp_path_factory) -> Path:
    """Fitted on features of the engine onnx."""
    crops = [load_image(photo)[:, y : y + 128, x : x + 128] for photo in photos for y in (0, 100) for x in (0, 200)]
    model = GRepQ.from_pretrained(engine="onnx").fit(crops, np.linspace(1, 5, len(crops)))
    return model.save_pretrained(tmp_path_factory.mktemp("fitted") / "mine")


def test_a_fitted_model_keeps_its_engine(fitted, compact, photos, tmp_path, caplog, monkeypatch):
    assert GRepQ.from_pretrained(fitted).engine.name == "onnx"
    crops = [load_image(photo)[:, y : y + 128, :128] for photo in photos for y in (0, 60, 120)]
    folder = (
        GRepQ.from_pretrained(engine="torch", dtype="float32").fit(crops, range(12)).save_pretrained(tmp_path / "t")
    )
    caplog.set_level(logging.INFO, "grepq_iqa")
    logging.getLogger("grepq_iqa").propagate = True
    again = GRepQ.from_pretrained(folder)
    assert again.engine.name == "torch" and "fitted on its features" in caplog.text
    caplog.clear()
    other = GRepQ.from_pretrained(folder, engine="onnx")
    assert "fitted on the features of engine torch float32" in caplog.text
    assert other.predict(photos[1]).mos == pytest.approx(again.predict(photos[1]).mos, abs=3)
    monkeypatch.setattr("grepq_iqa.weights.engines.TOLERANCE", 1e-9)
    with pytest.raises(UsageError, match="use engine torch, or fit again"):
        GRepQ.from_pretrained(folder, engine="onnx")
    with pytest.raises(UsageError, match="use engine onnx, or fit again"):
        GRepQ.from_pretrained(fitted, engine="torch")


def test_without_onnxruntime_a_model_fitted_on_onnx_still_predicts(fitted, photos, monkeypatch, caplog):
    logging.getLogger("grepq_iqa").propagate = True
    monkeypatch.setattr(engine_choice, "has_onnxruntime", lambda: False)
    model = GRepQ.from_pretrained(fitted)
    assert model.engine.name == "torch" and "differ a little" in caplog.text
    assert model.predict(photos[0]).mos


def choice(engine="auto", device="auto", dtype="auto", fitted_on=None, files=None, prefers=False):
    files = {INT8_GRAPH: Path("x")} if files is None else files
    return choose_engine(
        engine, device=device, dtype=dtype, name="m", files=files, fitted_on=fitted_on, prefers_onnx=lambda _: prefers
    )


def test_the_choice_of_an_engine(monkeypatch):
    monkeypatch.setattr(devices, "may_have_accelerator", lambda: False)
    monkeypatch.setattr(devices, "has_vnni", lambda: True)
    assert choice()[:2] == ("onnx", "int8")
    assert choice(device="cpu").engine == choice(dtype="bfloat16").engine == choice(files={}).engine == "torch"
    assert choice(fitted_on="torch").engine == choice("torch").engine == "torch"
    assert choice(dtype="int8").engine == choice("onnx", device="cpu").engine == "onnx"
    monkeypatch.setattr(devices, "may_have_accelerator", lambda: True)
    assert choice().engine == "torch" and choice(fitted_on="onnx").engine == "onnx"
    monkeypatch.setattr(devices, "may_have_accelerator", lambda: False)
    for native in (False, None):
        monkeypatch.setattr(devices, "has_vnni", lambda native=native: native)
        assert choice().engine == "torch" and choice(prefers=True).engine == "onnx"
        assert "timed" in choice(prefers=True).reason and "timed" in choice().reason
    for wrong, words in [
        ({"engine": "jax"}, "unknown engine 'jax'"),
        ({"engine": "onnx", "device": "cuda"}, "use device cpu"),
        ({"engine": "onnx", "dtype": "bfloat16"}, "int8 or float32"),
    ]:
        with pytest.raises(UsageError, match=words):
            choice(**wrong)
    with pytest.raises(WeightsError, match="grepq export --model m --format onnx --int8"):
        choice("onnx", files={})


def test_both_engines_are_timed_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    class Timed:
        def __init__(self, name, offset):
            made.append(name)
            self.offset = offset

        def encode(self, images):
            features = np.full((1, 2), self.offset, np.float32)
            return type("Encoded", (), {"high": features, "low": features})()

    clock = iter(np.cumsum([0.0, 4, 0, 4, 0, 4, 0, 1, 0, 1, 0, 1] * 2))
    monkeypatch.setattr(engine_choice.time, "perf_counter", lambda: next(clock))
    scale = np.ones(4, np.float32)
    for _ in range(2):
        assert engine_choice.timed_preference(lambda: Timed("torch", 0), lambda: Timed("onnx", 0.1), "a" * 64, scale)
    assert made == ["torch", "onnx"]
    # as fast, but with saturated products
    assert not engine_choice.timed_preference(lambda: Timed("torch", 0), lambda: Timed("onnx", 9), "b" * 64, scale)


def test_a_graph_of_other_weights_is_refused(tiny_model, photos, tmp_path, caplog):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(resolve(None).files[INT8_GRAPH], folder / INT8_GRAPH)
    with pytest.raises(WeightsError, match="made of other weights"):
        GRepQ.from_pretrained(folder, engine="onnx")
    (folder / INT8_GRAPH).write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match="cannot be read by onnxruntime"):
        GRepQ.from_pretrained(folder, engine="onnx")
    assert GRepQ.from_pretrained(folder, device="cpu").score(photos[0]).score


def test_export_writes_a_model_that_scores(grepq, tiny_model, photos, tmp_path):
    status, _, err = grepq("export", "--int8", "--model", tiny_model, "-o", tmp_path / "x")
    assert status == 2 and "--calibrate" in err
    for options in ((), ("--int8", "--calibrate", photos[0].parent)):
        folder = tmp_path / f"of{len(options)}"
        status, _, err = grepq("export", *options, "--model", tiny_model, "-o", folder)
        assert status == 0, err
        exact = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32").score(photos[0]).score
        quick = GRepQ.from_pretrained(folder, engine="onnx")
        assert quick.dtype == ("int8" if options else "float32")
        assert quick.score(photos[0]).score == pytest.approx(exact, abs=0.1 if options else 1e-5)
    status, _, err = grepq("export", "--model", tiny_model, "-o", tmp_path / "of0")
    assert status == 2 and "exists" in err


def test_export_leaves_another_model_alone(grepq, tiny_model, tmp_path):
    mine = shutil.copytree(tiny_model, tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    status, _, err = grepq("export", "-o", mine)  # of compact, for --model was forgotten
    assert status == 2 and "another model than compact" in err and f"--model {mine}" in err
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
    status, _, err = grepq("export", "--model", mine, "-o", mine)
    assert status == 0, err
    assert {path.name: path.read_bytes() for path in mine.iterdir()}.items() > before.items()


def test_threads_are_set_and_no_core_is_bound(monkeypatch):
    """Without a number ONNX Runtime binds its threads to cores, which containers refuse."""
    import onnxruntime

    seen = []
    whole = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options, **more: seen.append(options) or whole(graph, options, **more),
    )
    found = resolve(None)
    parts = load_components(found.name, found.files)
    OnnxEngine(found.files[INT8_GRAPH], parts.encoder_hash, "int8")
    monkeypatch.setattr(devices, "_threads", [3])
    OnnxEngine(found.files[INT8_GRAPH], parts.encoder_hash, "int8")
    assert [options.intra_op_num_threads for options in seen] == [devices.usable_cores(), 3]


FORKING = """
import multiprocessing, sys
from grepq_iqa import GRepQ

model, photo = GRepQ.from_pretrained(engine="onnx"), sys.argv[1]
alone = float(model.score(photo))

def score(path):
    return float(model.score(path))

with multiprocessing.get_context("fork").Pool(2) as pool:
    together = pool.map_async(score, [photo] * 4).get(timeout=60)
assert max(abs(score - alone) for score in together) < 1e-3, (alone, together)
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_pool_does_not_hang(photos):
    command = [sys.executable, "-c", FORKING, str(photos[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr


LEAVING = """
import os, random, sys, time
import numpy as np
from PIL import Image
from grepq_iqa import GRepQ

model = GRepQ.from_pretrained(engine="onnx")
noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
alone = float(model.score(Image.fromarray(noise)))
chance = random.Random(0)
for left in range(300):
    model.score(Image.fromarray(noise))
    time.sleep(chance.choice([0, 0.0002, 0.001, 0.003, 0.01]))  # the threads are busy, about to sleep, or asleep
    if (child := os.fork()) == 0:
        if left % 50 == 0:
            assert abs(float(model.score(Image.fromarray(noise))) - alone) < 1e-3
        del model
        os._exit(0)
    end = time.monotonic() + 30
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            sys.exit(f"child {left} hangs")
        time.sleep(0.002)
    assert ended[1] == 0, (left, ended)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_can_let_go_of_the_model():
    """ONNX Runtime waits for a session's threads when the session is freed, and a child has none of them."""
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_bundled_files_stay_small():
    sizes = {name: path.stat().st_size for name, path in resolve("compact").files.items()}
    assert sum(sizes.values()) < 90e6 and sizes[INT8_GRAPH] < 30e6
