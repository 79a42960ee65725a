"""From photographs to a measured model in one command, each stage skipped where it is finished.

What a stage depends on (settings, contents of the photographs, earlier stages, version of the code) makes its key; a
stage whose key is in ``reproduce.json`` and whose output is there is finished. Trainings live in folders named by their
key, so a changed setting begins anew and leaves the old run alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grepq_iqa.encoders.onnx_engine import INT8_GRAPH
from grepq_iqa.files import sha256_of, write_atomically
from grepq_iqa.training import stages
from grepq_iqa.training.data.prepare import read_index
from grepq_iqa.training.processes import is_first, part, wait_for_all
from grepq_iqa.training.recipe import (
    ExpectedRecipe,
    LowLevelRecipe,
    has_section,
    load_recipe,
    recipe_label,
    section_of,
)
from grepq_iqa.training.recipe_check import check_recipe
from grepq_iqa.training.run_record import list_hash, run_key
from grepq_iqa.training.stages import Say, TrainingOptions, is_compact

if TYPE_CHECKING:
    from grepq_iqa.benchmark.result import BenchmarkResult

STAMPS, EVALUATION = "reproduce.json", "evaluation.json"


@dataclass(frozen=True)
class Ratings:
    """Rated photographs for the ratings predictor.

    Attributes:
        csv: their table.
        name, license, description: what the model says of them; the description is of how they were rated.
        bounds: scores for the worst and the best.
        images: folder of the photographs, if not the table's.
    """

    csv: Path
    name: str
    bounds: tuple[float, float]
    license: str = "none stated"
    description: str = "not recorded"
    images: Path | None = None


@dataclass(frozen=True)
class Reproduction:
    """A model in the making.

    Attributes:
        out: folder for everything; the model is in ``out / "model"``.
        recipe: name or file.
        options: of the trainings.
        say: takes lines for the user.
        complain: takes a line for each photograph left out.
    """

    out: Path
    recipe: str
    options: TrainingOptions
    say: Say
    complain: Say

    def run(
        self,
        photographs: Sequence[str],
        pristine: Sequence[str],
        *,
        name: str | None = None,
        data_name: str | None = None,
        data_license: str | None = None,
        pristine_name: str | None = None,
        pristine_license: str | None = None,
        held_out: Path | None = None,
        clip: Path | None = None,
        ratings: Ratings | None = None,
        csv: Path | None = None,
        csv_images: Path | None = None,
        labels: Sequence[int] = (50, 100, 200),
        most: int | None = None,
    ) -> Path:
        """Do what is not done, and return the model directory.

        Args:
            photographs: folders or patterns of in-the-wild photographs.
            pristine: likewise of clean ones.
            name: of the model; None: the recipe's.
            data_name, data_license: of the in-the-wild photographs, for the provenance.
            pristine_name, pristine_license: likewise of the clean ones.
            held_out: file of SHA-256 of clean photographs that must not be used in any stage.
            clip: checkpoint of CLIP for a recipe that trains its tower; None takes it from the Hub.
            ratings: for the ratings predictor; None makes none.
            csv: labels to measure on; None measures nothing.
            csv_images: folder of their images, if not the table's.
            labels: numbers of labels to fit on there.
            most: unlabeled images for the tables, other than the recipe's.

        Raises:
            UsageError: the recipe lacks a section or has senseless settings, labels are asked for that nobody has, or
                ratings do not lie within their bounds.
            LabelsError: a table cannot be read. Both are found out before anything is done.
        """
        check_recipe(self.recipe)  # hours before its last sections are needed, as below
        evaluated = None if csv is None else stages.read_evaluation(csv, csv_images, labels)
        rated = None if ratings is None else stages.read_rated(ratings.csv, self.recipe, ratings.bounds, ratings.images)
        wild, clean, model = self.out / "photographs", self.out / "pristine", self.out / "model"
        fixed = load_recipe(self.recipe, "low_level", LowLevelRecipe).fixed_copies
        if is_first():
            self._prepare(photographs, wild, data_name, data_license, recipe=self.recipe if fixed else None)
            self._prepare(pristine, clean, pristine_name, pristine_license, held_out=held_out)
        wait_for_all()
        data = {"wild": read_index(wild).sha256, "pristine": read_index(clean).sha256}

        low_key = self._key("low_level", data["wild"], self.options.mixed_precision)
        low = self.out / f"low_level-{low_key}"
        train = lambda: stages.low_level_stage(wild, low, self.recipe, self.say, self.options)  # noqa: E731
        self._stage("low-level", low_key, low, train)

        sections = ["high_level", *(["distortion_head"] if has_section(self.recipe, "distortion_head") else [])]
        of_clip = None if clip is None else sha256_of(clip)
        high_key = self._key(*sections, data, self.options.mixed_precision, of_clip)
        high = self.out / f"high_level-{high_key}"
        train = lambda: stages.high_level_stage(  # noqa: E731
            wild, high, self.recipe, self.say, self.options, pristine=clean, clip=clip
        )
        self._stage("high-level", high_key, high, train)
        if not part():  # what follows is the work of one
            return model

        fine = fine_key = None
        if has_section(self.recipe, "fine_detail"):
            fine_key = self._key("fine_detail", data)
            fine = self.out / f"fine_detail-{fine_key}"
            self._stage(
                "fine-detail",
                fine_key,
                fine,
                lambda: stages.fine_detail_stage(
                    wild, clean, fine, self.recipe, self.say, workers=self.options.workers
                ),
            )  # fmt: skip
        settings = stages.export_settings(self.recipe, most=most)
        fsim = fsim_key = None
        if has_section(self.recipe, "predicted_fsim"):
            fsim_key = self._key("predicted_fsim", high_key, fine_key, data, settings.max_side)
            fsim = self.out / f"predicted_fsim-{fsim_key}"
            self._stage(
                "predicted-fsim",
                fsim_key,
                fsim,
                lambda: stages.predicted_fsim_stage(
                    wild, clean, high, fine, fsim, self.recipe, self.say, workers=self.options.workers
                ),
            )  # fmt: skip
        name = name or Path(recipe_label(self.recipe)).stem
        told = [name, recipe_label(self.recipe), *([one.name, one.license] for one in map(read_index, (wild, clean)))]
        export_key = self._key(
            *("scoring", "features", "provenance"),
            *(low_key, high_key, fine_key, fsim_key),
            *(settings.most, settings.max_side, told),
        )
        self._stage(
            "export",
            export_key,
            model / "features.safetensors",
            lambda: stages.export_stage(
                low, high, clean, wild, model, self.recipe, name=name, fine_detail=fine, predicted_fsim=fsim,
                most=settings.most, max_side=settings.max_side,
            ),
        )  # fmt: skip
        if is_compact(self.recipe):
            if find_spec("onnx") and find_spec("onnxruntime"):
                int8_key = run_key("int8", export_key)
                self._stage("int8", int8_key, model / INT8_GRAPH, lambda: stages.int8_stage(model, wild, self.say))
            else:
                self.say('int8: left out, it needs pip install "grepq-iqa[export]"')
        if ratings is not None and rated is not None:
            whose = [ratings.name, ratings.license, ratings.description, ratings.bounds]
            ratings_key = self._key("ratings", export_key, list_hash(rated.paths, rated.mos), whose)
            self._stage(
                "ratings",
                ratings_key,
                model / "ratings.safetensors",
                lambda: stages.ratings_stage(
                    model, ratings.csv, self.recipe, self.say, name=ratings.name, license=ratings.license,
                    description=ratings.description, bounds=ratings.bounds, images=ratings.images,
                    cache=self.out / "features",
                ),
            )  # fmt: skip
        if csv is not None and evaluated is not None:
            evaluate_key = run_key("evaluate", export_key, list_hash(evaluated.paths, evaluated.mos), list(labels))
            evaluate = lambda: self._evaluate(model, csv, csv_images, labels)  # noqa: E731
            self._stage("evaluate", evaluate_key, self.out / EVALUATION, evaluate)
        self.say(self._verdict(model, csv))
        return model

    def _prepare(
        self, photographs: Sequence[str], out: Path, name: str | None, license: str | None, **options: Any
    ) -> None:
        """Check and list a set, which takes little the second time."""
        stages.prepare_stage(photographs, out, self.say, name=name, license=license, complain=self.complain, **options)

    def _stage(self, name: str, key: str, output: Path, work: Callable[[], object]) -> None:
        stamps = self._stamps()
        wait_for_all()  # all have read before the first writes
        if stamps.get(name) == key and output.exists():
            if is_first():
                self.say(f"{name}: finished before ({output})")
            return
        if is_first() and name in self._stamps():  # what is there is not finished from now on
            others = {other: known for other, known in self._stamps().items() if other != name}
            write_atomically(self.out / STAMPS, json.dumps(others, indent=2) + "\n")
        work()
        wait_for_all()
        if is_first():
            write_atomically(self.out / STAMPS, json.dumps({**self._stamps(), name: key}, indent=2) + "\n")

    def _stamps(self) -> dict[str, str]:
        try:
            stamps: dict[str, str] = json.loads((self.out / STAMPS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamps

    def _key(self, *parts: Any) -> str:
        """Of sections of the recipe, by name, and whatever else."""
        return run_key(*(section_of(self.recipe, part) if part in _SECTIONS else part for part in map(_plain, parts)))

    def _evaluate(self, model: Path, csv: Path, images: Path | None, labels: Sequence[int]) -> None:
        result = stages.evaluate_stage(model, csv, self.say, images=images, labels=labels)
        write_atomically(self.out / EVALUATION, json.dumps(figures(result), indent=2) + "\n")

    def _verdict(self, model: Path, csv: Path | None) -> str:
        expected = (
            load_recipe(self.recipe, "expected", ExpectedRecipe) if has_section(self.recipe, "expected") else None
        )
        found = json.loads((self.out / EVALUATION).read_text(encoding="utf-8")) if csv is not None else None
        return f"{model} is done. {verdict(recipe_label(self.recipe), expected, found, csv)}"


_SECTIONS = (
    "low_level",
    "high_level",
    "distortion_head",
    "scoring",
    "features",
    "fine_detail",
    "predicted_fsim",
    "ratings",
    "provenance",
)


def _plain(part: Any) -> Any:
    return part if isinstance(part, (str, int, float, dict, type(None))) else list(part)


def figures(result: BenchmarkResult) -> dict[str, float]:
    """Median SRCC by what it was measured with: "zero-shot", or a number of labels."""
    zero_shot = {"zero-shot": float(result.zero_shot["Q"].srcc)}
    return zero_shot | {str(row.labels): float(row.median_srcc) for row in result.few_labels}


def verdict(recipe: str, expected: ExpectedRecipe | None, found: Mapping[str, float] | None, csv: Path | None) -> str:
    """One line: how what was found compares with what the recipe expects.

    Args:
        recipe: what it is called.
        expected: its figures; None: it states none.
        found: SRCC as `figures` gives them; None: nothing was measured.
        csv: what it was measured on.
    """
    if expected is None:
        wanted = f"Recipe {recipe} states no expected figures"
    else:
        listed = ", ".join(f"{_label(key)} {value:.3f}" for key, value in expected.srcc.items())
        wanted = f"Recipe {recipe} expects, on {expected.data}: SRCC {listed}"
    if found is None:
        return f"{wanted}; nothing was measured (--csv LABELS)."
    known = expected.srcc if expected else {}
    rows = (
        f"{_label(key)} {value:.3f}" + (f" ({value - known[key]:+.3f})" if key in known else "")
        for key, value in found.items()
    )
    return f"{wanted}; found on {csv}: {', '.join(rows)}."


def _label(key: str) -> str:
    return key if key == "zero-shot" else f"{key} labels"
