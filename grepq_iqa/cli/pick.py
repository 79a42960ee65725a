"""``grepq pick``: the best of each burst, and of near-duplicates; lists, copies, moves, links, and takes that back."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.cli.caching import CacheFolder, NoCache, open_cache
from grepq_iqa.cli.destinations import require_writable
from grepq_iqa.cli.loading import load_model
from grepq_iqa.cli.options import (
    Device,
    Dtype,
    EngineName,
    MaxPixels,
    MaxSide,
    Output,
    OutputFormat,
    Overwrite,
    Threads,
    set_threads,
)
from grepq_iqa.cli.ordering import MosLowerIsBetter, lowest_is_best
from grepq_iqa.cli.output import Format, RowWriter, choose_format, color_wanted, stdout_for_names
from grepq_iqa.cli.progress import track
from grepq_iqa.cli.row_file import write_rows_whole
from grepq_iqa.cli.streaming import run_settings, say_skipped
from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.rows import RESULT_FIELDS
from grepq_iqa.text import printable

if TYPE_CHECKING:
    from grepq_iqa.batch import Result
    from grepq_iqa.feature_cache import FeatureCache
    from grepq_iqa.model import GRepQ
    from grepq_iqa.report.companions import Shot
    from grepq_iqa.report.picks import Frame
    from grepq_iqa.report.transfer import Action

Rows = list[dict[str, Any]]


def pick(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Image files, folders (searched below), patterns, tables, or - for a list on stdin."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Folder written by `grepq fit`. [default: the zero-shot score]")
    ] = None,
    gap: Annotated[
        float, typer.Option(min=0, help="Seconds; pictures taken farther apart are no takes of one moment.")
    ] = 60.0,
    rest: Annotated[bool, typer.Option("--rest", help="List, copy, move or link what is not picked instead.")] = False,
    copy_to: Annotated[Path | None, typer.Option(help="Copy the picked ones into this folder.")] = None,
    move_to: Annotated[Path | None, typer.Option(help="Move them there.")] = None,
    link_to: Annotated[Path | None, typer.Option(help="Make links to them there.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Print their names only, one a line.")] = False,
    flat: Annotated[bool, typer.Option("--flat", help="Do not keep the sub-folders of what was searched.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, moved or linked.")] = False,
    undo: Annotated[
        Path | None, typer.Option(help="Take back what the journal of an earlier run tells, and do nothing else.")
    ] = None,
    lower_is_better: MosLowerIsBetter = None,
    format: OutputFormat = None,
    output: Output = None,
    overwrite: Overwrite = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
) -> None:
    """Pick the best of each burst and of near-duplicates; whatever is alone, or cannot be compared, is picked, too.

    Without an action the picks are listed, and nothing is touched. Raw files, sidecars and the moving half of a live
    photo go where their picture goes; names that exist are never written over. Moves leave a journal for --undo. Exit
    status: 0 all well, 1 some images or files failed, 2 wrong usage or no model.

    Examples:

      grepq pick holiday/

      grepq pick holiday/ --rest --move-to holiday-doubles

      grepq pick holiday/ --model my-model --copy-to best

      grepq pick --undo holiday-doubles/2026-11-25_08-30-00.grepq-journal.jsonl
    """
    if undo is not None:
        if paths or copy_to or move_to or link_to or list_only or rest or flat or dry_run or output or format:
            raise UsageError("--undo stands alone: nothing is picked with it, and it takes back what the journal tells")
        _undo(undo)
        return
    if not paths:
        raise UsageError("name images or folders to pick from")
    named: tuple[tuple[Action, Path | None], ...] = (("copy", copy_to), ("move", move_to), ("link", link_to))
    actions = [(action, folder) for action, folder in named if folder is not None]
    if len(actions) > 1 or (actions and list_only) or (list_only and (format or output)):
        raise UsageError("--copy-to, --move-to, --link-to and --list exclude each other, and --list has no --format")
    chosen = choose_format(format, output)
    if output is not None:
        require_writable(output, overwrite=overwrite, inputs=[path for path in paths if path != "-"])
    for _, folder in actions:
        _require_folder(folder)
    set_threads(threads)

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    if model is not None and not hasattr(grepq, "regressor_"):
        typer.echo(f"grepq: {grepq.name} was not fitted on labels: the zero-shot score picks", err=True)
    shots = _shots(paths, [folder for _, folder in actions])
    turned = lowest_is_best(grepq, lower_is_better)
    rows, reasons = _rows(grepq, shots, open_cache(grepq, cache, no_cache), gap, turned)
    picked = [shot for shot, row in zip(shots, rows, strict=True) if bool(row["pick"]) != rest]
    failed = sum(row["error"] is not None for row in rows)
    if list_only:
        stream = stdout_for_names()
        stream.writelines(f"{shot.picture}\n" for shot in picked)
        stream.flush()
    elif actions:
        if output is not None:
            write_rows_whole("pick", output, chosen, run_settings(grepq, gap=gap), rows)
        failed += _act(*actions[0], picked, [Path(path) for path in paths], flat=flat, dry_run=dry_run)
    else:
        _write(rows, output, chosen, run_settings(grepq, gap=gap))
    _say(rows, reasons)
    if failed:
        raise typer.Exit(1)


def _shots(paths: Sequence[str], destinations: Sequence[Path]) -> list[Shot]:
    """What is named, each file once; nothing below a destination unless that is named itself."""
    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.files import same_file_key
    from grepq_iqa.report.companions import shots_of

    skipped: Counter[str] = Counter()
    own = [same_file_key(folder) for folder in destinations]
    own = [key for key in own if key not in {same_file_key(path) for path in paths}]
    files: dict[str, Path] = {}
    for path in iter_image_paths(paths, skipped=skipped):
        key = same_file_key(path)
        if not any(key.startswith(folder.rstrip(os.sep) + os.sep) for folder in own):
            files.setdefault(key, path)
    say_skipped(skipped)
    if not files:
        raise UsageError("no images found; folders are searched for the usual image endings")
    # A link to a file that is looked at, too, is no picture of its own, and would lead nowhere once that is moved.
    goals = {os.path.realpath(path): path for path in files.values() if not path.is_symlink()}
    return shots_of(path for path in files.values() if not path.is_symlink() or os.path.realpath(path) not in goals)


def _rows(
    model: GRepQ, shots: Sequence[Shot], cache: FeatureCache | None, gap: float, lower_is_better: bool
) -> tuple[Rows, Counter[str]]:
    """A row for each shot, in order, and how many groups there are by each reason."""
    import numpy as np

    from grepq_iqa.batch import score_paths
    from grepq_iqa.report.picks import best_of, group_frames, in_words

    rows: Rows = []
    features, frames, at = [], [], []
    results = score_paths(model, [shot.picture for shot in shots], features=True, cache=cache)
    value = _value_of(model, lower_is_better)
    pool = ThreadPoolExecutor(thread_name_prefix="capture")
    try:
        known = pool.map(partial(_frame, max_pixels=model.max_pixels), [shot.picture for shot in shots])
        pairs = zip(results, known, strict=True)
        for i, (result, frame) in enumerate(track(pairs, "pick", len(shots))):
            taken = None if frame.capture.local is None else frame.capture.local.isoformat(" ")
            row: dict[str, Any] = {"path": result.path, "pick": 1, "taken": taken, "error": result.error}
            if result.score is not None and result.features is not None:
                mos, goodness, percentile = value(result)
                row |= {"score": result.score.score, "mos": mos, "percentile": percentile}
                frames.append(dataclasses.replace(frame, value=goodness))
                features.append(result.features)
                at.append(i)
            rows.append(row)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for none of those to come
    reasons: Counter[str] = Counter()
    if not frames:
        return rows, reasons
    groups = group_frames(
        np.stack(features), frames, feature_mean=model.feature_mean, feature_scale=model.feature_scale, gap=gap
    )
    for number, group in enumerate(groups.found, start=1):
        best = best_of(group.rows, frames)
        why = in_words(group.reasons)
        reasons[why] += 1
        for i in group.rows:
            rows[at[i]] |= {"group": number, "pick": int(i == best), "why": why}
    return rows, reasons


def _frame(picture: Path, *, max_pixels: int) -> Frame:
    from grepq_iqa.data.capture import read_capture
    from grepq_iqa.data.thumbnails import gray_thumbnail
    from grepq_iqa.files import sha256_of
    from grepq_iqa.report.alignment import SIDE
    from grepq_iqa.report.picks import Frame

    thumbnail, digest = None, None
    try:
        digest = sha256_of(picture)
        thumbnail = gray_thumbnail(picture, SIDE, max_pixels=max_pixels)
    except (GrepqError, OSError, ValueError, MemoryError):
        pass  # its row says why, in the words of the scorer
    return Frame(read_capture(picture), thumbnail, digest, 0.0, picture.is_symlink())


def _value_of(model: GRepQ, lower_is_better: bool) -> Callable[[Result], tuple[float | None, float, float | None]]:
    """What picks: predicted MOS, goodness, percentile; by the labels of a fitted model, else by the zero-shot score."""
    from grepq_iqa.calibration.standing import mos_standing

    fitted = hasattr(model, "regressor_")

    def value(result: Result) -> tuple[float | None, float, float | None]:
        assert result.score is not None and result.features is not None
        if not fitted:
            return None, result.score.score, result.score.percentile
        mos = float(model.predict(features=result.features[None]).mos[0])  # type: ignore[index]  # n of them
        standing = mos_standing(model, mos, lower_is_better=lower_is_better)
        return mos, -mos if lower_is_better else mos, standing

    return value


def _write(rows: Rows, output: Path | None, format: Format, settings: dict[str, Any]) -> None:
    if output is not None:
        write_rows_whole("pick", output, format, settings, rows)
        return
    fields = RESULT_FIELDS["pick"]
    if format is Format.table:  # times are long, and the whole row stands in the other formats
        fields = tuple(
            field for field in fields if field != "taken" and any(row.get(field) is not None for row in rows)
        )
    writer = RowWriter(format, stdout_for_names(), fields, color=format is Format.table and color_wanted(sys.stdout))
    for row in rows:
        writer.write(row)
    writer.finish()


def _say(rows: Rows, reasons: Counter[str]) -> None:
    grouped = sum(row.get("group") is not None for row in rows)
    groups = len({row["group"] for row in rows if row.get("group") is not None})
    told = f" ({', '.join(f'{reason}: {count}' for reason, count in sorted(reasons.items()))})" if reasons else ""
    failed = sum(row["error"] is not None for row in rows)
    unusable = f"; {failed} could not be compared and counted as picked" if failed else ""
    typer.echo(
        f"grepq: {len(rows)} shots, {grouped} of them in {groups} groups{told}: {grouped - groups} are redundant"
        + unusable,
        err=True,
    )


def _require_folder(folder: Path) -> None:
    """Refuse before the work what cannot become a folder to write into."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and a folder is wanted")
    require_writable(folder / "x")


def _act(
    action: Action, folder: Path, shots: Sequence[Shot], given: Sequence[Path], *, flat: bool, dry_run: bool
) -> int:
    """Copy, move or link shots; the number of those that failed."""
    from grepq_iqa.report.journal import Journal
    from grepq_iqa.report.targets import plan

    roots = [path for path in given if path.is_dir()]
    plans = plan(shots, folder, action, roots=roots, flat=flat)
    done = {"copy": "copied", "move": "moved", "link": "linked"}[action]
    if dry_run:
        stream = stdout_for_names()
        for one in plans:
            for source, target in zip(one.shot.files, one.targets, strict=True):
                if not one.there:
                    stream.write(f"{source} -> {target}\n")
        stream.flush()
        typer.echo(f"grepq: nothing was {done}: --dry-run", err=True)
        return 0
    failed = files = there = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror or error}") from error
    with Journal(folder) as journal:
        for one in track(plans, action, len(plans)):
            there += one.there
            if one.there:
                continue
            before = files
            for source, target in zip(one.shot.files, one.targets, strict=True):
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    journal.do(action, source, target)
                    files += 1
                except OSError as error:
                    failed += 1
                    rest = "" if files == before else f"; other files of its shot were {done}"
                    typer.echo(f"grepq: {printable(source)} was not {done}: {error.strerror or error}{rest}", err=True)
                    break
    already = f", {there} shots were there already" if there else ""
    back = f"; to take it back: grepq pick --undo '{journal.path}'" if files else ""
    typer.echo(f"grepq: {files} files {done} to {folder}{already}{back}", err=True)
    return failed


def _undo(path: Path) -> None:
    from grepq_iqa.report.journal import undo

    back = failed = 0
    for one in undo(path):
        if one.error is None:
            back += 1
        else:
            failed += 1
            typer.echo(f"grepq: {printable(one.path)}: {one.error}", err=True)
    typer.echo(f"grepq: {back} files taken back" + (f", {failed} were left alone" if failed else ""), err=True)
    if failed:
        raise typer.Exit(1)
