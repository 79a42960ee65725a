"""One callable for frameworks that map over batches: `Scorer`, and its adapters."""

from __future__ import annotations

import io
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs
from PIL import Image

from grepq_iqa import GRepQ, UsageError, WeightsError
from grepq_iqa.errors import NotFittedError
from grepq_iqa.integrations import Scorer, spark


@pytest.fixture(scope="module")
def small(photos, tmp_path_factory):
    """Paths of six small photographs, two of them broken, and one that does not exist."""
    folder = tmp_path_factory.mktemp("small")
    paths = []
    for i, photo in enumerate(photos[:4]):
        paths.append(folder / f"{i}.png")
        Image.open(photo).convert("RGB").resize((96 + 16 * (i % 2), 96)).save(paths[-1])
    (folder / "cut.png").write_bytes(paths[0].read_bytes()[:900])
    (folder / "empty.jpg").write_bytes(b"")
    return [str(p) for p in (*paths[:2], folder / "cut.png", *paths[2:], folder / "empty.jpg", folder / "gone.jpg")]


GOOD = [0, 1, 3, 4]
BAD = [2, 5, 6]


@pytest.fixture
def scorer(tiny_model):
    return Scorer(str(tiny_model), threads=None, device="cpu", dtype="float32")


def contents(paths):
    found = []
    for path in paths:
        try:
            found.append(Path(path).read_bytes())
        except OSError:
            found.append(None)
    return found


def test_rows_are_those_of_the_model(scorer, small, tiny_model):
    rows = scorer({"path": np.array(small, dtype=object), "id": np.arange(7)})
    model = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")
    for i in GOOD:
        alone = model.score(small[i])
        assert rows["score"][i] == pytest.approx(alone.score, abs=1e-5)
        assert rows["low_level"][i] == pytest.approx(alone.low_level, abs=1e-5)
        assert rows["error"][i] is None
        assert rows["warnings"][i] == "; ".join(alone.warnings)
    for i in BAD:
        assert np.isnan(rows["score"][i])
        assert isinstance(rows["error"][i], str) and rows["warnings"][i] == ""
    assert rows["error"][6] == "does not exist"
    assert list(rows["path"]) == small and list(rows["id"]) == list(range(7))
    assert all(isinstance(column, np.ndarray) and len(column) == 7 for column in rows.values())


def test_bytes_give_what_paths_give(scorer, small):
    by_path = scorer({"path": small})
    by_bytes = scorer({"bytes": contents(small), "path": small})
    np.testing.assert_array_equal(by_bytes["score"], by_path["score"])
    assert "bytes" not in by_bytes  # pictures are not sent back
    assert by_bytes["error"][6] == "there is no picture in this row"
    as_hugging_face = scorer({"image": [{"bytes": one, "path": None} for one in contents(small)]})
    np.testing.assert_array_equal(as_hugging_face["score"], by_path["score"])


def test_rows_of_any_rubbish_are_values(scorer):
    rubbish = [
        None,
        float("nan"),
        b"",
        b"GIF89a",
        "",
        "\0",
        5,
        [1],
        {"bytes": None},
        np.zeros((0, 3)),
        np.full(4, np.nan),
    ]
    rows = scorer({"image": rubbish})
    assert all(isinstance(error, str) and error for error in rows["error"])
    assert np.isnan(rows["score"]).all()


@pytest.mark.needs("fsspec", "aiohttp")
def test_a_fault_that_nobody_foresaw_costs_its_row_only(scorer, small):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.jpg"
        rows = scorer({"path": [small[0], url, small[1], "zzz://a"]})
    assert rows["error"][0] is None and rows["error"][2] is None
    assert np.isfinite(rows["score"][[0, 2]]).all()
    assert "127.0.0.1" in rows["error"][1] or "does not exist" in rows["error"][1]
    assert "zzz" in rows["error"][3]


def test_columns_of_the_batch_are_not_written_over(scorer, small, tiny_model):
    batch = {"image": small[:2], "mos": [1.0, 2.0], "score": [3, 4]}
    with pytest.raises(UsageError, match="columns score already"):
        scorer(batch)
    batch.pop("score")
    assert list(scorer(batch)["mos"]) == [1.0, 2.0]
    with pytest.raises(UsageError, match="columns mos already"):
        Scorer("compact", "torch", device="cpu", predict=True)(batch)


def test_two_models_are_held(small, tiny_model, tmp_path, monkeypatch):
    from grepq_iqa.integrations import scorer as module

    loaded, load = [], module._load
    monkeypatch.setattr(module, "_load", lambda settings: loaded.append(settings.max_side) or load(settings))
    monkeypatch.setattr(module, "_models", {})
    scorers = [Scorer(str(tiny_model), "torch", device="cpu", max_side=side) for side in (50, 60, 70)]
    for one in (0, 1, 0, 1, 0, 2, 0, 2, 1):
        scorers[one].load()
    assert loaded == [50, 60, 70, 60]


def test_an_empty_batch_has_the_columns(scorer):
    assert set(scorer({"path": []})) >= {"path", "score", "warnings", "error"}


def test_features_and_predictions(small):
    scorer = Scorer(features=True, predict=True, threads=None, device="cpu", dtype="float32")
    rows = scorer({"path": small})
    model = GRepQ.from_pretrained(device="cpu", dtype="float32")
    predicted = model.predict([small[i] for i in GOOD])
    for name in ("mos", "low", "high"):
        np.testing.assert_allclose(rows[name][GOOD], getattr(predicted, name), atol=1e-3)
        assert np.isnan(rows[name][BAD]).all()
    np.testing.assert_allclose(np.stack(rows["features"][GOOD]), model.features([small[i] for i in GOOD]), atol=1e-4)
    assert rows["features"][2] is None


def test_what_is_wrong_with_the_settings_is_no_value(tiny_model, small):
    with pytest.raises(NotFittedError, match="predict=False"):
        Scorer(str(tiny_model), predict=True)({"path": small[:1]})
    with pytest.raises(WeightsError):
        Scorer("no-such-model", threads=None)({"path": small[:1]})
    with pytest.raises(UsageError, match="column of pictures"):
        Scorer(str(tiny_model), threads=None)({"name": small})
    with pytest.raises(UsageError, match="'photo'"):
        Scorer(str(tiny_model), threads=None, column="photo")({"path": small})
    with pytest.raises(UsageError, match="threads"):
        Scorer(threads=0)
    with pytest.raises(UsageError, match="engine"):
        Scorer(engine="tpu")


def test_it_is_pickled_as_settings_and_the_model_is_loaded_once(scorer, small):
    scorer({"path": small[:1]})
    packed = pickle.dumps(scorer)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again.load() is scorer.load()


def test_errors_of_the_model_cross_process_borders():
    error = pickle.loads(pickle.dumps(WeightsError("cannot be read", "compact", file="a", hint="set b")))
    assert (str(error), error.name, error.file, error.hint) == ("cannot be read (set b)", "compact", "a", "set b")


def test_importing_it_needs_no_framework():
    code = (
        "import sys; from grepq_iqa.integrations import Scorer; Scorer(); "
        "heavy = ('torch', 'ray', 'pandas', 'pyarrow', 'fsspec', 'datasets', 'torchmetrics'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.needs("pandas")
def test_spark_gets_frames_of_its_schema(scorer, small):
    import pandas as pd

    frames = [
        pd.DataFrame({"path": small[:3], "length": [1, 2, 3], "score": [4, 5, 6]}),
        pd.DataFrame({"bytes": contents(small[3:])}),
    ]
    found = list(spark.in_pandas(pickle.loads(pickle.dumps(scorer)))(iter(frames)))
    names = [word.split(" ")[0] for word in spark.schema(scorer).split(", ")]
    assert [list(frame.columns) for frame in found] == [names, names]
    assert tuple(scorer.table([])) == scorer.columns
    assert names == ["path", "score", "low_level", "high_level", "percentile", "warnings", "error"]
    expected = scorer({"path": small})
    np.testing.assert_array_equal(np.concatenate([frame["score"] for frame in found]), expected["score"])
    assert list(found[0]["path"]) == small[:3] and found[1]["path"].isna().all()
    assert spark.schema(Scorer(features=True, predict=True)).count("double") == 7


@pytest.mark.needs("pandas", "pyarrow")
def test_spark_rows_pass_through_arrow(small):
    import pandas as pd
    import pyarrow as pa

    scorer = Scorer(features=True, threads=None, device="cpu", dtype="float32")
    frame = next(spark.in_pandas(scorer)([pd.DataFrame({"path": small})]))
    double, text = pa.float64(), pa.string()
    kinds = {"path": text, "warnings": text, "error": text, "features": pa.list_(pa.float32())}
    schema = pa.schema([(name, kinds.get(name, double)) for name in frame.columns])
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)  # as Spark does
    assert table["score"].null_count == len(BAD) and table["features"].null_count == len(BAD)


@pytest.mark.needs("datasets")
def test_hugging_face_maps_it(scorer, small, tmp_path):
    needs("datasets")
    import datasets

    table = datasets.Dataset.from_dict({"path": small, "label": list(range(7))})
    scored = table.map(scorer, batched=True, batch_size=3, cache_file_name=str(tmp_path / "cache.arrow"))
    assert list(scored["label"]) == list(range(7)) and list(scored["path"]) == small
    np.testing.assert_allclose(np.array(scored["score"], dtype=float), scorer({"path": small})["score"], atol=1e-5)
    assert [error is None for error in scored["error"]] == [i in GOOD for i in range(7)]


def test_bytes_of_an_image_in_memory(scorer):
    stream = io.BytesIO()
    Image.new("RGB", (96, 96), "gray").save(stream, "PNG")
    rows = scorer({"bytes": [stream.getvalue()]})
    assert "flat" in rows["warnings"][0] or rows["warnings"][0]
