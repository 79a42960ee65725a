"""``grepq explain``: why photographs are poor, and where."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
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
    ModelName,
    Output,
    OutputFormat,
    Overwrite,
    Paths,
    Resume,
    Threads,
    Verbose,
    set_threads,
    set_verbose,
)
from grepq_iqa.cli.ordering import Ordering, Sort, Top, Worst
from grepq_iqa.cli.output import Format
from grepq_iqa.cli.streaming import require_output, run_settings, write_rows
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    from grepq_iqa.batch import Result
    from grepq_iqa.model import GRepQ
    from grepq_iqa.results import Explanation

MAP_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Endings of pictures of maps, in lower case, and Pillow's names of the formats."""


def explain(
    paths: Paths,
    map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="Draw where the picture is damaged: a .png, .jpg or .webp for one photograph, else a folder, which "
            "gets NAME.map.png of each.",
        ),
    ] = None,
    model: ModelName = None,
    format: OutputFormat = None,
    output: Output = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    sort: Sort = None,
    top: Top = None,
    worst: Worst = None,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    threads: Threads = 0,
    verbose: Verbose = False,
) -> None:
    """Say why photographs are poor: blur, noise, compression, light, color, as amounts and in words.

    reasons names what stands out, most serious first; an empty list is a clean picture. The ten amounts are on the
    scales of docs/explain.md: pixels of blur, levels of noise, JPEG quality, stops, per cent. Exit status: 0 all well,
    1 some images failed, 2 wrong usage or no model.

    Examples:

      grepq explain photo.jpg

      grepq explain photo.jpg --map where.png

      grepq explain holiday/ --map maps/ --output why.jsonl
    """
    chosen = require_output(paths, output, format, resume=resume, overwrite=overwrite)
    maps = None if map is None else MapFiles(map, paths, overwrite=overwrite)
    if maps is not None and resume:
        typer.echo("grepq: maps are drawn of photographs that have no row yet; leave --resume out for all", err=True)
    set_threads(threads)
    set_verbose(verbose)

    grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
    write_rows(
        "explain",
        grepq,
        paths,
        lambda result: _row(result, grepq, maps, chosen),
        output=output,
        format=chosen,
        settings=run_settings(grepq),
        resume=resume,
        features=False,
        ordering=Ordering("score", sort=sort, top=top, worst=worst),
        cache=open_cache(grepq, cache, no_cache),
    )


class MapFiles:
    """Where the pictures of maps go.

    Args:
        target: a file for one photograph, or a folder.
        paths: as given by the user.
        overwrite: whether files that are not ours may be replaced.

    Raises:
        UsageError: nothing may be written there; the message says what to do.
    """

    def __init__(self, target: Path, paths: list[str], *, overwrite: bool) -> None:
        self._target, self._overwrite = target, overwrite
        self._inputs = [path for path in paths if path != "-"]
        self._is_file = target.suffix.lower() in MAP_SUFFIXES and not target.is_dir()
        self._taken: set[Path] = set()
        if self._is_file:
            if len(paths) != 1 or paths[0] == "-" or Path(paths[0]).is_dir():
                raise UsageError(f"--map {target} holds the map of one photograph; name a folder for several")
            require_writable(target, overwrite=overwrite, inputs=self._inputs)
        elif target.exists() and not target.is_dir():
            raise UsageError(f"--map {target}: name a .png, .jpg or .webp file, or a folder")
        elif target.suffix and not target.exists():
            raise UsageError(f"--map {target}: maps are written as {', '.join(MAP_SUFFIXES)}, or into a folder")
        else:
            require_writable(target / "map.png", overwrite=True)

    def write(self, photograph: str, explanation: Explanation, max_pixels: int) -> None:
        """Draw the map of one photograph, which may have so many pixels.

        Raises:
            UsageError: its file may not or cannot be written.
        """
        from grepq_iqa.data.thumbnails import thumbnail
        from grepq_iqa.explain import overlay
        from grepq_iqa.explain.coloring import SIDE
        from grepq_iqa.files import replacing

        assert explanation.map is not None  # asked for
        path = self._path_of(photograph)
        picture = overlay(thumbnail(photograph, SIDE, max_pixels=max_pixels), explanation.map)
        try:
            with replacing(path) as beside:
                picture.save(beside, MAP_SUFFIXES[path.suffix.lower()], **_marked(path, photograph))
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error

    def _path_of(self, photograph: str) -> Path:
        if self._is_file:
            if self._taken:
                raise UsageError(f"--map {self._target} holds the map of one photograph; name a folder for several")
            path = self._target
        else:
            stem = Path(photograph).name
            for number in itertools.count(1):  # the same name in several folders, in this run or an earlier one
                path = self._target / (f"{stem}.map.png" if number == 1 else f"{stem}.{number}.map.png")
                if path not in self._taken and not _is_of_another(path, photograph):
                    break
        self._taken.add(path)
        require_writable(path, overwrite=self._overwrite, inputs=[*self._inputs, photograph])
        return path


def _row(result: Result, model: GRepQ, maps: MapFiles | None, format: Format) -> Mapping[str, Any]:
    from grepq_iqa.data.decoding.job import NO_MEMORY
    from grepq_iqa.errors import ImageError
    from grepq_iqa.explain.explanation import decode_views, explain_views

    if result.score is None:
        return {}
    try:
        native, screen = decode_views(result.path, model.max_pixels)
        found = explain_views(native, screen, result.score, map=maps is not None)
    except (ImageError, MemoryError) as error:
        reason = error.reason if isinstance(error, ImageError) else NO_MEMORY
        return {"warnings": list(result.score.warnings), "error": reason}
    if maps is not None:
        maps.write(result.path, found, model.max_pixels)
    as_json = format in (Format.json, Format.jsonl)
    reasons = [vars(reason) if as_json else reason.name for reason in found.reasons]
    return {
        "score": found.score.score,
        "percentile": found.score.percentile,
        **{amount.name: amount.amount for amount in found.amounts},
        "reasons": reasons,
        "sentence": found.sentence,
        "warnings": list(found.score.warnings),
    }


_PHOTOGRAPH = "Photograph"  # key of the metadata that tells whose map it is


def _digest(photograph: str) -> str:
    from grepq_iqa.files import same_file_key

    return hashlib.sha256(same_file_key(photograph).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_of_another(path: Path, photograph: str) -> bool:
    """Whether a map that is there tells that it is of another photograph; maps of version 0.1 tell nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return False
    key = f"{_PHOTOGRAPH}\0".encode()
    at = head.find(key) + len(key)
    return key in head and head[at : at + 16] != _digest(photograph).encode()


def _marked(path: Path, photograph: str) -> dict[str, Any]:
    """Options of Pillow that write our mark into the file's metadata, so that it may be replaced by the next map."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from grepq_iqa.text import MARK

    if path.suffix.lower() == ".png":
        note = PngInfo()
        note.add_text("Software", MARK)
        note.add_text(_PHOTOGRAPH, _digest(photograph))
        return {"pnginfo": note}
    exif = Image.Exif()
    exif[0x0131] = MARK  # Software
    return {"exif": exif, "quality": 90}
