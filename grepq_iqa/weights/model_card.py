"""The model card: README.md of a model directory, written from its config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grepq_iqa.files import write_atomically
from grepq_iqa.weights.config import read_config

LIBRARY = "grepq-iqa"
PIPELINE = "image-classification"  # the Hub has no tag for image quality; this is the nearest with an image and numbers
TAGS = ("image-quality-assessment", "no-reference", "blind", "grepq")

METRICS = {
    "srcc": ("spearman", "Spearman's rank correlation (SRCC)"),
    "plcc": ("pearson", "Pearson's correlation (PLCC)"),
    "krcc": ("kendall", "Kendall's rank correlation (KRCC)"),
    "rmse": ("rmse", "Root mean squared error (RMSE)"),
    "mae": ("mae", "Mean absolute error (MAE)"),
}

LIMITS = (
    "Screenshots, text, drawings, maps and other pictures that no camera took: the notion of quality was learned from "
    "photographs.",
    "Photographs from special instruments (medical, satellite, microscope, thermal, depth): what looks like a fault "
    "there may be the signal.",
    "Output of generative models: errors of anatomy, text or meaning are not seen, only texture and exposure.",
    "Deliberate style: shallow focus, grain, low key, motion blur and high contrast may be scored as faults.",
    "Beauty, interest, honesty or safety of what is shown: the score is about how a picture looks, not what it says.",
    "Differences smaller than the spread of human ratings: two photographs a few hundredths apart are equal.",
    "Decisions about people. Neither training nor testing looked at groups of people, and a camera's quality goes "
    "with its price.",
    "Predicted MOS outside the kind of pictures that were labeled: fit again on your own, and look at the interval.",
)

CITATION = """@inproceedings{srinath2024grepq,
  title     = {Learning Generalizable Perceptual Representations for Data-Efficient No-Reference Image Quality Assessment},
  author    = {Srinath, Suhas and Mitra, Shankhanil and Rao, Shika and Soundararajan, Rajiv},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)},
  year      = {2024}
}"""  # noqa: E501


def model_card(config: Mapping[str, Any], *, repo_id: str | None = None, fitted: bool = False) -> str:
    """README.md for a model: front matter that the Hub reads, then text that people read.

    Args:
        config: config.json, of any format. Of ``provenance`` the card shows ``license``, the base models and data of
            both trainings and of the export (of format 1: ``base_model`` and ``data``), their ``recipe`` and
            ``code_version``, ``human_scores`` and ``scores`` (dicts with ``dataset``, ``metric``, ``value`` and
            optionally ``split``, ``labels``).
        repo_id: where the model will be, for the example; otherwise the folder's own name.
        fitted: whether it holds calibration.safetensors and so predicts MOS.

    Returns:
        Markdown with front matter.
    """
    provenance = config.get("provenance") or {}
    name = repo_id.split("/")[-1] if repo_id else str(config.get("name", LIBRARY))
    scores = _scores(provenance)
    sections = [
        _front_matter(config, name, scores),
        f"# {name}",
        _summary(config, fitted),
        "## Use\n\n" + _example(repo_id or str(config.get("name", ".")), fitted),
        "## What it is\n\n" + _description(config),
        "## How it was made\n\n" + _making(provenance),
        "## Measured\n\n" + _measured(scores),
        "## Where not to trust this model\n\n" + "\n".join(f"- {limit}" for limit in LIMITS),
        f"## Citation\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def write_card(directory: Path) -> None:
    """Write README.md of a model directory from its config.json.

    Raises:
        WeightsError: the config cannot be read.
    """
    config = read_config(str(directory), directory / "config.json")
    fitted = (directory / "calibration.safetensors").is_file()
    write_atomically(directory / "README.md", model_card(config, fitted=fitted))


def _front_matter(config: Mapping[str, Any], name: str, scores: Sequence[Mapping[str, Any]]) -> str:
    provenance = config.get("provenance") or {}
    matter: dict[str, Any] = {
        "library_name": LIBRARY,
        "license": str(provenance.get("license", "mit")).lower(),
        "pipeline_tag": PIPELINE,
        "tags": list(TAGS),
    }
    if hub := [base["hub"] for base in _base_models(provenance) if base.get("hub")]:
        matter["base_model"] = hub
    # The Hub accepts its own data set names only; others are named in the text.
    if datasets := [entry["id"] for entry in _data(provenance) if entry.get("id")]:
        matter["datasets"] = datasets
    matter["metrics"] = sorted({METRICS[score["metric"]][0] for score in scores}) or ["spearman", "pearson"]
    if scores:
        matter["model-index"] = [{"name": name, "results": [_result(score) for score in scores]}]
    # JSON is YAML, and quotes everything that YAML would read as something else.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in matter.items()]
    return "\n".join(["---", *lines, "---"])


def _result(score: Mapping[str, Any]) -> dict[str, Any]:
    kind, title = METRICS[score["metric"]]
    dataset: dict[str, Any] = {"name": str(score["dataset"]), "type": score.get("id") or _slug(str(score["dataset"]))}
    if score.get("split"):
        dataset["split"] = str(score["split"])
    return {
        "task": {"type": PIPELINE, "name": "No-reference image quality assessment"},
        "dataset": dataset,
        "metrics": [{"type": kind, "name": f"{title}, {_setting(score)}", "value": float(score["value"])}],
    }


def _summary(config: Mapping[str, Any], fitted: bool) -> str:
    text = (
        "No-reference image quality assessment: how good a photograph looks, with no perfect copy to compare it with. "
        "The score Q lies in (0, 1.5); higher is better. Needs no labels."
    )
    if fitted:
        return (
            text
            + " This copy was also fitted to labeled images: it predicts their mean opinion score, with an interval."
        )
    return text


def _example(where: str, fitted: bool) -> str:
    lines = ["from grepq_iqa import GRepQ", "", f'model = GRepQ.from_pretrained("{where}")']
    lines.append('model.predict("photo.jpg")' if fitted else 'float(model.score("photo.jpg"))')
    code = "\n".join(lines)
    command = f"grepq {'predict' if fitted else 'score'} photo.jpg --model {where}"
    return f"```python\n{code}\n```\n\n```sh\npip install grepq-iqa\n{command}\n```"


def _description(config: Mapping[str, Any]) -> str:
    low, high = config.get("low_level") or {}, config.get("high_level") or {}
    side = config.get("max_side")
    head = high.get("distortion_head") or high.get("damage")
    reader = ", and a copy of its later stages that sees distortions" if head else ""
    regions = ", and how much the best regions exceed the whole" if high.get("region_contrast") else ""
    fine = config.get("fine_detail")
    rows = [
        ("Low level", f"{low.get('architecture', 'unknown')}, patches of {low.get('patch', 96)} pixels"),
        ("High level", f"{high.get('architecture', 'unknown')} {high.get('model', '')}".strip() + reader + regions),
        *([("Full resolution", f"amounts of light {', '.join(fine['amounts'])}")] if fine else []),
        *([("FSIM, predicted", "weighs distortions of unlike families")] if config.get("predicted_fsim") else []),
        ("Longest side", f"shrunk to {side} pixels" if side else "native size"),
    ]
    text = (
        "Two encoders, as in GRepQ (Srinath et al., WACV 2024): a low-level one whose patch statistics are compared "
        "with those of pristine photographs, and a high-level one whose embedding is compared with two sentences, one "
        "for a good and one for a bad photograph.\n\n"
    )
    return text + _table(("", ""), rows)


def _making(provenance: Mapping[str, Any]) -> str:
    stages = [provenance.get(stage) or {} for stage in ("low_level", "high_level", "export")]
    recipes = [provenance.get("recipe"), *(stage.get("recipe") for stage in stages)]
    versions = [provenance.get("code_version"), *(stage.get("code_version") for stage in stages)]
    rows = [
        ("Recipe", ", ".join(dict.fromkeys(str(r) for r in recipes if r)) or "not recorded"),
        ("Code version", ", ".join(dict.fromkeys(v for v in versions if v)) or "not recorded"),
        ("Starts from", "; ".join(_in_words(base) for base in _base_models(provenance)) or "random weights"),
    ]
    for entry in _data(provenance):
        held_out = f", {entry['held_out']} more held out to measure on" if entry.get("held_out") else ""
        count = f"{entry['count']} images{held_out}" if entry.get("count") else ""
        extra = [count, str(entry.get("license") or "")]
        role = f"Data, {entry['role'].replace('_', ' ')}" if entry.get("role") else "Data"
        rows.append((role, ", ".join(part for part in [str(entry["name"]), *extra] if part)))
    if ratings := provenance.get("ratings"):
        rows.append(("Ratings behind `predict` before a fit and head starts", _in_words_of_ratings(ratings)))
    if human := provenance.get("human_scores"):
        rows.append(("Human scores in the training of the encoders", "yes" if human.get("in_training") else "none"))
        rows.append(("Human scores in choosing the recipe", str(human.get("in_choosing_the_recipe", "not recorded"))))
    return _table(("", ""), rows)


def _base_models(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where weights came from, as dicts with ``name`` and optionally ``package``, ``file``, ``sha256`` and ``hub``."""
    records = [(provenance.get(stage) or {}).get("base_model") for stage in ("low_level", "high_level")]
    given = [provenance.get("base_model"), *records]
    found = [one for entry in given if entry for one in (entry if isinstance(entry, list) else [entry])]
    return [one if isinstance(one, Mapping) else {"name": str(one), "hub": str(one)} for one in found]


def _in_words_of_ratings(ratings: Mapping[str, Any]) -> str:
    licenses = ", ".join(str(entry.get("license") or "none stated") for entry in ratings.get("data") or [{}])
    how = str(ratings.get("ratings") or "not recorded")
    return f"{how}; license of ratings.safetensors' data: {licenses}; the score Q does not read them"


def _in_words(base: Mapping[str, Any]) -> str:
    extra = [str(base.get("package") or ""), str(base.get("file") or "")]
    hashed = f"SHA-256 {base['sha256'][:16]}..." if base.get("sha256") else ""
    known = ", ".join(part for part in [*extra, hashed] if part)
    return str(base["name"]) + (f" ({known})" if known else "")


def _measured(scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return "Nothing has been measured for these files; measure on your own pictures with `grepq benchmark`."
    rows = [
        (str(score["dataset"]), METRICS[score["metric"]][1], _setting(score), f"{float(score['value']):.3f}")
        for score in scores
    ]
    return _table(("Data set", "Metric", "Setting", "Value"), rows)


def _setting(score: Mapping[str, Any]) -> str:
    labels, split = score.get("labels"), str(score.get("split") or "")
    if labels:
        return f"{labels} labels"
    return split if split.startswith("zero-shot") else "zero-shot"


def _scores(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    scores = provenance.get("scores") or []
    return [score for score in scores if isinstance(score, Mapping) and score.get("metric") in METRICS]


def _data(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Data of every stage, each role of a stage once."""
    given = provenance.get("data") or []
    entries: list[Any] = [given] if isinstance(given, (str, Mapping)) else list(given)
    for stage in ("low_level", "high_level", "export", "ratings"):
        entries += (provenance.get(stage) or {}).get("data") or []
    known: dict[Any, Mapping[str, Any]] = {}
    for entry in entries:
        one = entry if isinstance(entry, Mapping) else {"name": str(entry)}
        known.setdefault((one.get("role"), one.get("sha256"), one["name"]), one)
    return list(known.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )


def _slug(text: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in text.lower()).strip("-") or "dataset"
