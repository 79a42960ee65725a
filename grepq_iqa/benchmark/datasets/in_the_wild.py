"""Photographs with authentic distortions: CLIVE, KonIQ-10k, FLIVE, SPAQ, BIQ2021. Every image is its own content."""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages, Row, assemble, table_rows
from grepq_iqa.benchmark.datasets.tree import Tree
from grepq_iqa.benchmark.datasets.workbooks import read_mat, read_xlsx
from grepq_iqa.data.tables import read_table
from grepq_iqa.errors import LabelsError

# The first 7 of CLIVE's 1,169 entries were shown to the viewers as examples; their images lie in a folder of their own.
_CLIVE_EXAMPLES = 7
_CLIVE_ENTRIES = 1169
_PARTS = {"training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}


def read_clive(root: str | Path) -> LabeledImages:
    """LIVE In the Wild: ``Data/AllImages_release.mat``, ``Data/AllMOS_release.mat``, ``Images/``."""
    name, tree = "CLIVE", Tree(root)
    labels = tree.file("Data/AllMOS_release.mat", "AllMOS_release.mat", name=name)
    listing = tree.file("Data/AllImages_release.mat", "AllImages_release.mat", name=name)
    scores = read_mat(labels, "AllMOS_release")
    images = read_mat(listing, "AllImages_release")
    if len(scores) != len(images):
        raise LabelsError(f"{name}: {len(images)} names in {listing.name} but {len(scores)} scores", str(labels))
    start = _CLIVE_EXAMPLES if len(images) == _CLIVE_ENTRIES else 0
    rows = [
        Row(image, float(score), f"entry {i + 1}")
        for i, (image, score) in enumerate(zip(images, scores, strict=True))
        if i >= start
    ]
    paths = tree.images((row.image for row in rows), ("Images", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 100", labels=labels)


def read_koniq(root: str | Path) -> LabeledImages:
    """KonIQ-10k: ``koniq10k_scores_and_distributions.csv`` and ``1024x768/`` (or ``512x384/``).

    The authors' split is known where ``koniq10k_distributions_sets.csv`` of their repository lies beside it; that
    file alone will do, since it holds the scores as well.
    """
    name, tree = "KonIQ-10k", Tree(root)
    sets = tree.optional_file("koniq10k_distributions_sets.csv", "metadata/koniq10k_distributions_sets.csv")
    labels = tree.optional_file("koniq10k_scores_and_distributions.csv") or sets
    if labels is None:
        labels = tree.file("koniq10k_scores_and_distributions.csv", name=name)
    parts: dict[str, str] = {}
    if sets is not None:
        table = read_table(sets)
        image, part = table.column("image_name"), table.column("set", "split")
        for where, cells in table.filled(image):
            parts[table.text(cells, image).lower()] = _part(table.text(cells, part), sets, where)
    table = read_table(labels)
    image, score = table.column("image_name"), table.column("MOS_zscore", "MOS")
    rows = table_rows(table, image, score, parts=parts)
    paths = tree.images((row.image for row in rows), ("1024x768", "512x384", "images", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS from z-scores, 0 to 100", labels=labels)


def read_flive(root: str | Path) -> LabeledImages:
    """FLIVE (PaQ-2-PiQ): ``labels_image.csv`` and ``database/``, as the authors' preparation notebook leaves them.

    Whole pictures only, not the patches. The split is known where ``labels<=640_padded.csv`` (training, and validation
    by its ``is_valid``) and ``labels>640.csv`` (test) lie beside it.
    """
    name, tree = "FLIVE", Tree(root)
    labels = tree.file("labels_image.csv", "database/labels_image.csv", name=name)
    parts = _flive_parts(tree)
    table = read_table(labels)
    image, score = table.column("name", "name_image"), table.column("mos", "mos_image")
    rows = table_rows(table, image, score, parts=parts)
    paths = tree.images((row.image for row in rows), ("database", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 100", labels=labels)


def read_spaq(root: str | Path) -> LabeledImages:
    """SPAQ: ``Annotations/MOS and Image attribute scores.xlsx`` and ``TestImage/``."""
    name, tree = "SPAQ", Tree(root)
    file = "MOS and Image attribute scores.xlsx"
    labels = tree.file(f"Annotations/{file}", file, name=name)
    table = read_xlsx(labels, ("Image name", "MOS"))
    image, score = table.column("Image name"), table.column("MOS")
    rows = table_rows(table, image, score)
    folders = ("TestImage", "TestImage/TestImage", "Dataset/TestImage", ".")
    paths = tree.images((row.image for row in rows), folders, near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 100", labels=labels)


def read_biq2021(root: str | Path) -> LabeledImages:
    """BIQ2021: ``Train (Images and MOS).csv``, ``Test (Images and MOS).csv`` and ``Images/``.

    The repository also holds ``Train.csv`` and ``Test.csv``, the same on another scale; they are read where the
    others are missing. One of the two parts will do.
    """
    name, tree = "BIQ2021", Tree(root)
    found = {part: tree.optional_file(f"{part} (Images and MOS).csv", f"{part}.csv") for part in ("Train", "Test")}
    if not any(found.values()):
        tree.file("Train (Images and MOS).csv", "Train.csv", name=name)
    rows, labels = [], Path()
    for part, path in found.items():
        if path is None:
            continue
        labels, table = path, read_table(path)
        image, score = table.column("Image Name", "Images", "image"), table.column("MOS")
        rows += [
            Row(
                table.text(cells, image),
                table.required_number(cells, score, where),
                f"{path.name}, {where}",
                part=part.lower(),
            )
            for where, cells in table.filled(image, score)
        ]
    paths = tree.images((row.image for row in rows), ("Images", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 1", labels=labels)


def _flive_parts(tree: Tree) -> dict[str, str]:
    # Unpackers that cannot write < and > to disk leave these characters out.
    small = ("labels<=640_padded.csv", "labels=640_padded.csv")
    large = ("labels>640.csv", "labels640.csv")
    trained = tree.optional_file(*small, *(f"database/{name}" for name in small))
    tested = tree.optional_file(*large, *(f"database/{name}" for name in large))
    if trained is None or tested is None:
        return {}
    parts: dict[str, str] = {}
    for path in (trained, tested):
        table = read_table(path)
        image = table.column("name_image", "name")
        valid = table.column("is_valid") if path is trained else image
        for _, cells in table.filled(image):
            held_out = table.text(cells, valid).lower() in ("true", "1")
            parts[table.text(cells, image).lower()] = "test" if path is tested else "val" if held_out else "train"
    return parts


def _part(text: str, path: Path, where: str) -> str:
    try:
        return _PARTS[text.lower()]
    except KeyError:
        raise LabelsError(f"{path} cannot be used", str(path), (f"{where}: unknown part {text!r}",)) from None
