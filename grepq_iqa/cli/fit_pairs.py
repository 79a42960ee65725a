"""``grepq fit --pairs``: learn a scale from comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from grepq_iqa.cli.progress import track
from grepq_iqa.errors import LabelsError
from grepq_iqa.files import same_file_key, sha256_of

if TYPE_CHECKING:
    from grepq_iqa.calibration.prior import Prior
    from grepq_iqa.data.labels import Labels
    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ


def fit_pairs(
    pairs: Path,
    csv: Path | None,
    output: Path,
    *,
    read: Callable[[Path], Labels],
    load: Callable[[], GRepQ],
    open_cache: Callable[[GRepQ], FeatureCache | None],
    images: Path | None,
    skip_bad_rows: bool,
    encoding: str | None,
    prior: Prior,
    as_json: bool,
    seed: int,
) -> None:
    """Fit, save and report.

    Args:
        pairs: table of comparisons.
        csv: table of labels that give the scale, or None.
        output: folder of the fitted model.
        read: a table of labels -> labels, as the options say.
        load: the model.
        open_cache: of features, as the options say.
        images: folder that relative paths in ``pairs`` start from.
        skip_bad_rows: leave rows that cannot be used out, rather than stop.
        encoding: of the tables.
        prior: head start.
        as_json: report as JSON.
        seed: of what is held out.
    """
    import numpy as np

    from grepq_iqa.batch import collect, score_paths
    from grepq_iqa.calibration.groups import find_groups
    from grepq_iqa.calibration.pair_report import report_pairs
    from grepq_iqa.calibration.pairs import PairwiseRegressor
    from grepq_iqa.calibration.prior import resolved
    from grepq_iqa.data.pair_table import read_comparisons
    from grepq_iqa.data.thumbnails import gray_thumbnail

    answers = read_comparisons(pairs, images=images, skip_bad_rows=skip_bad_rows, encoding=encoding)
    labels = None if csv is None else read(csv)
    for problem in (*answers.skipped, *(labels.skipped if labels is not None else ())):
        typer.echo(f"grepq: left out {problem}", err=True)
    if labels is not None:
        for note in labels.notes:
            typer.echo(f"grepq: {note}", err=True)
    if labels is not None and labels.lower_is_better:
        raise LabelsError(
            f"{csv}: lower is better in {labels.mos_column!r}, while winners are better; turn the scores round",
            str(csv),
        )

    grepq = load()
    resolved(prior, ratings=grepq.ratings is not None)  # before minutes of features
    starred = () if labels is None else labels.paths
    files = list({same_file_key(path): path for path in (*answers.paths, *starred)}.values())
    found = collect(track(score_paths(grepq, files, features=True, cache=open_cache(grepq)), "features", len(files)))
    problems = tuple(f"{files[i]}: {error}" for i, error in found.failures)
    if problems and not skip_bad_rows:
        raise LabelsError(f"{pairs}: {len(problems)} of {len(files)} images cannot be used", str(pairs), problems)
    for problem in problems:
        typer.echo(f"grepq: left out {problem}", err=True)
    answers = answers.without([files[i] for i, _ in found.failures])

    usable = [files[i] for i in found.indices]
    row = {same_file_key(path): at for at, path in enumerate(usable)}
    number = np.array([row[same_file_key(path)] for path in answers.paths], dtype=np.intp)
    mos = np.full(len(usable), np.nan)
    for path, label in zip(starred, () if labels is None else labels.mos.tolist(), strict=True):
        if same_file_key(path) in row:
            mos[row[same_file_key(path)]] = label
    ends = number[answers.ends]
    groups = find_groups(
        found.features,
        [sha256_of(path) for path in usable],
        thumbnails=[gray_thumbnail(path, max_pixels=grepq.max_pixels) for path in usable],
        feature_mean=grepq.feature_mean,
        feature_scale=grepq.feature_scale,
    )
    grepq.fit_pairs(
        found.features,
        ends,
        answers.outcomes,
        mos=None if labels is None else mos,
        prior=prior,
        groups=groups.units,
        seed=seed,
    )
    grepq.save_pretrained(output)

    scores = [score.score for score in found.scores]
    assert isinstance(grepq.regressor_, PairwiseRegressor)  # just fitted
    report = report_pairs(grepq.regressor_, ends, answers.outcomes, scores)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text(), nl=as_json)
    for warning in report.warnings:
        typer.echo(f"grepq: warning: {warning}", err=True)
    typer.echo(f"fitted model: {output}", err=True)
