"""A whole run on a handful of pictures: caching, bad images, baselines, reports and the command."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import needs
from PIL import Image, ImageFilter
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from grepq_iqa.benchmark import baselines, few_labels, report, run
from grepq_iqa.benchmark.correlation import correlation_metrics
from grepq_iqa.benchmark.datasets.registry import read
from grepq_iqa.benchmark.niqe import block_features, niqe
from grepq_iqa.benchmark.result import iter_failures, rank_disagreements
from grepq_iqa.benchmark.result_log import Entry, ResultLog
from grepq_iqa.benchmark.splits import random_splits
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.cli.benchmark import app, expand_several
from grepq_iqa.data.images import decode_image
from grepq_iqa.encoders.fine_detail import PreparedImage
from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.metrics import srcc
from grepq_iqa.report import contact_sheet
from grepq_iqa.results import Score
from grepq_iqa.text import MARK

N = 24


class SharpnessModel:
    """Stands where GRepQ does: it answers with the spread of differences, fast enough for a test."""

    name, encoder_hash, max_side, dtype, feature_dim = "sharpness", "ab" * 32, None, torch.float32, 4
    max_pixels, ratings, config = 10**8, None, {}
    feature_mean = feature_scale = None
    batch_pixels = 1  # every picture by itself

    def __init__(self) -> None:
        self.seen = 0

    @property
    def features_hash(self):
        return self.encoder_hash  # as torch's engine has it

    def regression(self, features, prior):
        assert prior == "auto"
        return np.asarray(features, dtype=np.float64), MOSRegressor()

    def prepare(self, source):
        return PreparedImage(decode_image(source, max_side=self.max_side, max_pixels=self.max_pixels), None)

    def score_prepared(self, images):
        return self.score_tensors([image.decoded.values for image in images])

    def score_tensors(self, images):
        self.seen += len(images)
        found = []
        for image in images:
            sharp = float(np.abs(np.diff(image, axis=-1)).mean())
            vector = np.array([sharp, sharp**2, float(image.mean()), float(image.std())], dtype=np.float32)
            found.append((Score(sharp + 0.25, 0.25, sharp), vector))
        return found

    def percentile(self, score):
        return None


def picture(level: int, size: int = 200) -> Image.Image:
    """The same kind of texture, blurred more the lower its level."""
    rng = np.random.default_rng(level)
    coarse = Image.fromarray(rng.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8))
    return coarse.resize((size, size)).filter(ImageFilter.GaussianBlur(3 * (1 - level / N) + 0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    (root / "images").mkdir()
    lines = ["image,mos,reference,split"]
    for level in range(N):
        picture(level).save(root / "images" / f"{level:02d}.png")
        lines.append(f"{level:02d}.png,{1 + 4 * level / N},r{level // 2},{'test' if level % 4 == 0 else 'train'}")
    (root / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot much more")
    lines += ["broken.png,3,r99,train", "nowhere.png,3,r99,train"]
    (root / "labels.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def result(folder: Path):
    return run(read("csv", folder), SharpnessModel(), label_counts=(5, 10), splits=4, resamples=50)


class TestRun:
    def test_metrics_are_those_of_the_scores(self, result):
        scores = [row.scores["Q"] for row in result.per_image]
        mos = [row.mos for row in result.per_image]
        assert result.images == N and list(result.zero_shot) == ["Q", "Q_L", "Q_H"]
        assert result.zero_shot["Q"].srcc == pytest.approx(srcc(scores, mos))
        assert result.zero_shot["Q"].srcc > 0.9
        groups = [f"r{level // 2}" for level in range(N)]
        assert result.zero_shot["Q"] == correlation_metrics(scores, mos, groups=groups, resamples=50)
        assert np.isnan(result.zero_shot["Q_L"].srcc)

    def test_bad_and_missing_images_are_listed(self, result, folder: Path):
        [(path, method, reason)] = result.failed
        assert path == str(folder / "images" / "broken.png") and method == "grepq" and reason
        assert result.missing == ("nowhere.png",)
        text = "\n".join(iter_failures(result))
        assert "broken.png" in text and "1 images of the label file are not there: nowhere.png" in text

    def test_few_labels_are_those_of_the_protocol(self, folder: Path):
        images, model = read("csv", folder), SharpnessModel()
        found = run(images, model, label_counts=(6,), splits=3, resamples=0, make_regressor=lambda: Ridge(1e-3))
        images = images.take(range(N))
        features = np.stack([model.score_tensors([_tensor(path)])[0][1] for path in images.paths])
        splits = list(random_splits(N, 3, groups=images.groups))
        [wanted] = few_labels(features, images.mos, lambda: Ridge(1e-3), (6,), splits)
        np.testing.assert_allclose(found.few_labels[0].srcc, wanted.srcc)
        assert found.contents == N // 2 and "contents (12 in all)" in found.protocol
        scores = np.array([row.scores["Q"] for row in found.per_image])
        assert found.test_parts["Q"] == tuple(srcc(scores[t], images.mos[t]) for _, t in splits)

    def test_official_split(self, folder: Path):
        found = run(
            read("csv", folder), SharpnessModel(), label_counts=(5,), splits=2, protocol="official", resamples=0
        )
        assert found.few_labels[0].test == (6, 6) and "authors' test part of 6" in found.protocol

    def test_official_split_where_there_is_none(self, folder: Path, tmp_path: Path):
        for level in range(6):
            picture(level, 96).save(tmp_path / f"{level}.png")
        (tmp_path / "labels.csv").write_text("image,mos\n" + "".join(f"{i}.png,{i}\n" for i in range(6)))
        with pytest.raises(UsageError, match="no official split"):
            run(read("csv", tmp_path), SharpnessModel(), protocol="official", label_counts=())

    def test_too_many_labels_are_refused_before_the_first_image(self, folder: Path):
        model = SharpnessModel()
        with pytest.raises(UsageError, match=r"50 labels asked for, but .* leaves 19"):
            run(read("csv", folder), model, label_counts=(5, 50))
        assert model.seen == 0

    def test_unusable_images_shrink_the_pool(self, folder: Path):
        images = dataclasses.replace(read("csv", folder), groups=None)
        room = min(len(pool) for pool, _ in random_splits(len(images), 4))
        found = run(images, SharpnessModel(), label_counts=(5, room), splits=4, resamples=0)
        assert [row.labels for row in found.few_labels] == [5]
        assert found.notes and str(room) in found.notes[0]

    def test_nothing_usable(self, tmp_path: Path):
        for name in "abcde":
            (tmp_path / f"{name}.png").write_bytes(b"no")
        (tmp_path / "labels.csv").write_text("image,mos\n" + "".join(f"{name}.png,{ord(name)}\n" for name in "abcde"))
        with pytest.raises(UsageError, match="0 usable images"):
            run(read("csv", tmp_path), SharpnessModel(), label_counts=())


class TestResume:
    def test_a_second_run_computes_nothing_and_says_the_same(self, folder: Path, tmp_path: Path):
        model = SharpnessModel()
        first = run(read("csv", folder), model, label_counts=(5,), splits=2, cache_dir=tmp_path, resamples=0)
        assert model.seen == N
        second = run(read("csv", folder), model, label_counts=(5,), splits=2, cache_dir=tmp_path, resamples=0)
        assert model.seen == N
        assert json.dumps(first.to_json()) == json.dumps(second.to_json())

    def test_an_interrupted_run_goes_on(self, folder: Path, tmp_path: Path):
        def stop(method: str, done: int, total: int) -> None:
            if done == 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(read("csv", folder), SharpnessModel(), label_counts=(), cache_dir=tmp_path, progress=stop)
        model = SharpnessModel()
        run(read("csv", folder), model, label_counts=(), cache_dir=tmp_path, resamples=0)
        assert model.seen == N - 10

    def test_another_model_starts_anew(self, folder: Path, tmp_path: Path):
        run(read("csv", folder), SharpnessModel(), label_counts=(), cache_dir=tmp_path, resamples=0)
        other = SharpnessModel()
        other.encoder_hash = "cd" * 32
        run(read("csv", folder), other, label_counts=(), cache_dir=tmp_path, resamples=0)
        assert other.seen == N


class TestResultLog:
    def test_keeps_what_was_put(self, tmp_path: Path):
        image = tmp_path / "a.png"
        image.write_bytes(b"1")
        with ResultLog(tmp_path, "m") as log:
            log.put(image, Entry({"m": 0.5}, 0.1))
            assert log.get(image) == Entry({"m": 0.5}, 0.1)
        with ResultLog(tmp_path, "m") as log:
            assert log.get(image) == Entry({"m": 0.5}, 0.1)
            image.write_bytes(b"changed")
            assert log.get(image) is None
            image.unlink()
            assert log.get(image) is None

    def test_a_cut_line_and_a_damaged_one_cost_one_image_each(self, tmp_path: Path):
        images = [tmp_path / f"{i}.png" for i in range(4)]
        with ResultLog(tmp_path, "m") as log:
            for i, image in enumerate(images):
                image.write_bytes(b"1")
                log.put(image, Entry({"m": float(i)}, None))
        path = tmp_path / "m.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + b"{}\n" + lines[2] + lines[3][:20])
        with ResultLog(tmp_path, "m") as log:
            assert [log.get(image) is not None for image in images] == [True, False, True, False]
            log.put(images[3], Entry({"m": 3.0}, None))
        with ResultLog(tmp_path, "m") as log:
            assert log.get(images[3]) == Entry({"m": 3.0}, None)

    def test_without_a_directory_nothing_is_written(self, tmp_path: Path):
        with ResultLog(None, "m") as log:
            log.put(Path(__file__), Entry({"m": 1.0}, 0.1))
            assert log.get(Path(__file__)) is not None
        assert not list(tmp_path.iterdir())


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path``, before all others, to install packages in."""
    for package in ("brisque", "pypiqe", "mmagic", "basicsr"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for package in ("brisque", "pypiqe", "mmagic", "basicsr"):
        sys.modules.pop(package, None)


def install(site_packages: Path, name: str, version: str, source: str) -> Path:
    """A package as pip leaves it: a folder with code, and its metadata beside it."""
    folder, info = site_packages / name, site_packages / f"{name}-{version}.dist-info"
    folder.mkdir()
    info.mkdir()
    (folder / "__init__.py").write_text(textwrap.dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


class TestBaselines:
    def test_stand_on_the_same_images_and_splits(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        calls = []

        def contrast(pixels: np.ndarray) -> float:
            assert pixels.dtype == np.uint8 and pixels.shape == (200, 200, 3)
            calls.append(1)
            if len(calls) == 4:
                raise ValueError("not for me")
            return float(pixels.std())

        monkeypatch.setitem(baselines.BASELINES, "niqe", baselines.Baseline("niqe", "", "", lambda: contrast))
        found = run(
            read("csv", folder),
            SharpnessModel(),
            label_counts=(),
            splits=3,
            baselines=["niqe"],
            cache_dir=tmp_path,
            resamples=0,
        )
        assert list(found.zero_shot) == ["Q", "Q_L", "Q_H", "niqe"]
        assert found.images == N - 1 and {n.n for n in found.zero_shot.values()} == {N - 1}
        assert len(found.test_parts["niqe"]) == 3 and found.seconds["niqe"] > 0
        assert ("niqe", "ValueError: not for me") in {row[1:] for row in found.failed}
        before = len(calls)
        run(read("csv", folder), SharpnessModel(), label_counts=(), baselines=["niqe"], cache_dir=tmp_path, resamples=0)
        assert len(calls) == before + 1  # the one that failed

    def test_unknown(self):
        with pytest.raises(UsageError, match="unknown method 'psnr'; known are brisque, niqe, piqe"):
            baselines.load_baseline("psnr")

    @pytest.mark.parametrize(
        ("name", "command"),
        [("brisque", "'brisque[opencv-python-headless]'"), ("niqe", "--no-deps mmagic"), ("piqe", "pypiqe")],
    )
    def test_says_what_to_install(self, name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for module in ("brisque", "pypiqe"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])  # where nothing is installed
        with pytest.raises(GrepqError, match=f"--against {name} needs a package") as caught:
            baselines.load_baseline(name)
        assert f"pip install {command}" in str(caught.value)
        assert baselines.version(name) == "unknown"

    def test_brisque(self, site_packages: Path):
        """The installed class calls its own ``scale_features`` with one-element arrays, as brisque 0.2 does."""
        install(
            site_packages,
            "brisque",
            "0.2.1",
            """
            import numpy as np
            class BRISQUE:
                def __init__(self, url=True):
                    assert url is False
                def scale_features(self, features):
                    return [float(feature) if np.ndim(feature) == 0 else float("nan") for feature in features]
                def score(self, img):
                    return np.array(sum(self.scale_features([np.array([img.std()]), np.array(1.0)])))
            """,
        )
        pixels = np.asarray(picture(N))
        score = baselines.load_baseline("brisque")(pixels)
        assert isinstance(score, float) and score == pytest.approx(-(pixels.std() + 1))
        assert baselines.version("brisque") == "brisque 0.2.1"

    def test_piqe_gets_blue_first(self, site_packages: Path):
        install(
            site_packages,
            "pypiqe",
            "1.2.0",
            """
            def piqe(img):
                assert img.flags["C_CONTIGUOUS"]
                return img[..., 0].mean(), None, None, None
            """,
        )
        pixels = np.asarray(picture(N)).copy()
        pixels[..., 2] //= 2
        assert baselines.load_baseline("piqe")(pixels) == pytest.approx(-pixels[..., 2].mean())
        assert baselines.version("piqe") == "pypiqe 1.2.0"

    @pytest.mark.parametrize("package", ["mmagic", "basicsr"])
    def test_niqe_takes_the_pristine_model_of_an_installed_package(self, site_packages: Path, package: str):
        folder = install(site_packages, package, "1.0", "raise RuntimeError('nothing of it is run')")
        relative = {"mmagic": "evaluation/metrics", "basicsr": "metrics"}[package]
        (folder / relative).mkdir(parents=True)
        rng = np.random.default_rng(0)
        mean, covariance = rng.random((1, 36)), np.eye(36) * rng.random(36)
        np.savez(folder / relative / "niqe_pris_params.npz", mu_pris_param=mean, cov_pris_param=covariance)
        sharp, blurred = (np.asarray(picture(level)) for level in (N, 0))
        method = baselines.load_baseline("niqe")
        assert method(sharp) == -niqe(sharp, mean[0], covariance) != method(blurred)
        assert baselines.version("niqe") == f"{package} 1.0"


class TestNiqe:
    def test_the_pristine_set_is_at_no_distance_from_itself(self):
        pixels = np.asarray(picture(N, 384))
        luma = np.round(pixels @ (np.array([65.481, 128.553, 24.966]) / 255) + 16)
        features = block_features(luma)
        assert features.shape == (16, 36)
        assert niqe(pixels, features.mean(0), np.cov(features, rowvar=False)) == pytest.approx(0, abs=1e-6)
        assert niqe(np.asarray(picture(0, 384)), features.mean(0), np.cov(features, rowvar=False)) > 1

    def test_shapes_of_known_distributions(self):
        """A normalized Gaussian block has shape 2, a Laplacian one shape 1."""
        from grepq_iqa.benchmark.niqe import _asymmetric_gaussian

        rng = np.random.default_rng(0)
        blocks = np.stack([rng.normal(size=(96, 96)), rng.laplace(size=(96, 96))])
        shape, left, right = _asymmetric_gaussian(blocks)
        np.testing.assert_allclose(shape, [2, 1], rtol=0.06)
        np.testing.assert_allclose(left, right, rtol=0.06)

    def test_no_room_for_two_blocks(self):
        with pytest.raises(UsageError, match="two blocks"):
            niqe(np.zeros((96, 100, 3), dtype=np.uint8), np.zeros(36), np.eye(36))


class TestReport:
    def test_json_is_strict_and_complete(self, result, tmp_path: Path):
        report.write_json(result, tmp_path / "deep" / "r.json")
        content = json.loads((tmp_path / "deep" / "r.json").read_text(), parse_constant=pytest.fail)
        assert content["zero_shot"]["Q_L"]["srcc"] is None
        assert content["few_labels"][0]["median_srcc"] == pytest.approx(result.few_labels[0].median_srcc)
        assert len(content["per_image"]) == N and content["failed"] and content["versions"]["grepq-iqa"]

    def test_tables_hold_the_numbers(self, result):
        from rich.console import Console

        console = Console(width=140, record=True, file=SimpleNamespace(write=lambda _: None, flush=lambda: None))
        for table in report.tables(result):
            console.print(table)
        text = console.export_text()
        assert f"{result.zero_shot['Q'].srcc:.3f}" in text and f"{result.few_labels[1].median_srcc:.3f}" in text

    def test_pictures(self, result, tmp_path: Path):
        needs("matplotlib")
        report.write_scatter(result, tmp_path / "scatter.png")
        report.write_contact_sheet(result, tmp_path / "sheet.png", k=3)
        for name in ("scatter.png", "sheet.png"):
            with Image.open(tmp_path / name) as image:
                assert image.format == "PNG" and min(image.size) > 300

    def test_an_image_that_went_away_is_grey(self, folder: Path, tmp_path: Path):
        assert contact_sheet._picture(str(tmp_path / "gone.png"), 10**8).getpixel((5, 5)) == (211, 211, 211)

    def test_worst_are_those_whose_ranks_part_most(self):
        rows = tuple(
            SimpleNamespace(mos=m, scores={"Q": s}) for m, s in [(1, 1), (2, 9), (3, 3), (4, 4), (5, 0), (6, 6)]
        )
        too_high, too_low = rank_disagreements(SimpleNamespace(per_image=rows), k=1)
        assert too_high == [1] and too_low == [4]
        # Places by score are 2, 6, 3, 4, 1 and 5, by MOS 1 to 6; those in their place are neither.
        too_high, too_low = rank_disagreements(SimpleNamespace(per_image=rows), k=10)
        assert too_high == [1, 0] and too_low == [4, 5]


class TestCommand:
    def test_list(self):
        shown = CliRunner().invoke(app, ["list"])
        assert shown.exit_code == 0
        for text in ("koniq-10k", "https://database.mmsp-kn.de/koniq-10k-database.html", "license", "citation"):
            assert text in shown.stdout
        entries = json.loads(CliRunner().invoke(app, ["list", "--format", "json"]).stdout)
        assert {"clive", "pipal", "csv"} <= {entry["name"] for entry in entries}

    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            (
                ["csv", "--labels", "50", "100", "--root", "x"],
                ["csv", "--labels", "50", "--labels", "100", "--root", "x"],
            ),
            (["--against", "niqe", "piqe", "csv"], ["--against", "niqe", "--against", "piqe", "csv"]),
            (["--labels", "50", "csv", "100"], ["--labels", "50", "csv", "100"]),
            (["--labels=50", "list"], ["--labels=50", "list"]),
            (["--splits", "3", "4"], ["--splits", "3", "4"]),
        ],
    )
    def test_several_values(self, given: list[str], meant: list[str]):
        assert expand_several(given) == meant

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["csv"], "--root is missing"),
            (["ava", "--root", "."], "there is no data set"),
            (["live", "--root", ".", "--csv", "a.csv"], "belong to NAME csv"),
            (["csv", "--root", ".", "--labels", "many"], "whole numbers"),
            (["csv", "--root", ".", "--labels", "2"], "3 and more"),
            (["csv", "--root", ".", "--against", "psnr"], "unknown method"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], message: str):
        found = CliRunner().invoke(app, arguments)
        assert isinstance(found.exception, UsageError) and message in str(found.exception)

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            (["--plot", "x.xyz"], "x.xyz: a file that ends in .png is written there"),
            (["--worst", "x.svg"], "x.svg: a file that ends in .png is written there"),
            (["-o", "x.csv"], "x.csv: a file that ends in .json is written there"),
            (["--plot", "x"], "x: a file that ends in .png is written there"),
            (["-o", "folder.json"], "is a folder"),
            (["--plot", "x.png", "--worst", "./x.png"], "both be written to"),
            (["-o", "notes.json"], "was not written by this command"),
            (["--worst", "images/00.png"], "was not written by this command"),
            (["--worst", "images/00.png", "--overwrite"], "is one of the inputs"),
            (["-o", "notes.json/r.json"], "is not a folder"),
        ],
    )
    def test_outputs_are_checked_before_the_work(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outputs: list[str], message: str
    ):
        """Nothing is scored, no model is loaded, and what was there stays."""
        root = tmp_path / "set"
        shutil.copytree(folder, root)
        (root / "folder.json").mkdir()
        (root / "notes.json").write_text('{"mine": 1}')
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        monkeypatch.chdir(root)
        monkeypatch.setattr("grepq_iqa.GRepQ.from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
        found = CliRunner().invoke(app, ["csv", "--root", ".", "--labels", "0", *outputs])
        assert isinstance(found.exception, UsageError) and message in str(found.exception)
        assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def test_a_whole_run_with_the_bundled_model(self, folder: Path, tmp_path: Path):
        found = CliRunner().invoke(
            app,
            f"csv --root {folder} --labels 5 10 --splits 2 --bootstrap 20 --cache-dir {tmp_path} -o {tmp_path}/r.json "
            "--format json",
        )
        assert found.exit_code == 1, found.output  # one image of the set is broken
        content = json.loads((tmp_path / "r.json").read_text())
        assert content.pop("generator") == MARK
        assert content["images"] == N and content == json.loads(found.stdout)
        assert [row["labels"] for row in content["few_labels"]] == [5, 10]


def _tensor(path: Path) -> torch.Tensor:
    from grepq_iqa.data.images import load_image

    return load_image(path)
