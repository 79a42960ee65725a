"""A table of one's own: ``labels.csv`` with a column of images and a column of scores."""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages, Row, assemble
from grepq_iqa.benchmark.datasets.tree import Tree
from grepq_iqa.data.labels import IMAGE_ALIASES, MOS_ALIASES, find_image, home_expanded, means_lower_is_better
from grepq_iqa.data.tables import read_table
from grepq_iqa.errors import LabelsError, UsageError

GROUP_COLUMNS = ("group", "reference", "ref", "ref_img", "content")
PART_COLUMNS = ("split", "set", "part")
_PARTS = {"training": "train", "validation": "val", "valid": "val"}


def read_labeled_folder(
    root: str | Path, labels: str | None = None, lower_is_better: bool | None = None
) -> LabeledImages:
    """Any labeled folder.

    Args:
        root: folder; images are looked for beside the table, in ``images/`` and in ``root``; absolute paths are taken
            as they are.
        labels: the table, relative to ``root``; default ``labels.csv``, else the only CSV file there.
        lower_is_better: whether to negate the scores; None: as the column's name says, as in `grepq fit`.

    A column of references (``group``, ``reference``, ``ref_img``) keeps contents together; one called ``split`` or
    ``set`` with ``train``, ``val``, ``test`` is the official split.

    Raises:
        UsageError: the table or all images are not there.
        LabelsError: it cannot be used: no such columns, or cells beyond them, as unquoted decimal commas leave.
    """
    tree = Tree(root)
    path = _find_table(tree, labels)
    table = read_table(path)
    unknown = "has no column that is known to hold the {}, such as {!r}; its columns are {{}}"
    image = table.column(*IMAGE_ALIASES, missing=unknown.format("images", "image"))
    score = table.column(*MOS_ALIASES, missing=unknown.format("scores", "mos"))
    group, part = table.optional_column(*GROUP_COLUMNS), table.optional_column(*PART_COLUMNS)
    sign = -1 if means_lower_is_better(table.header[score], lower_is_better) else 1
    rows, problems = [], []
    for where, cells in table.filled(image, score):
        if table.surplus(cells):
            count = f"{len(cells)} cells under {len(table.header)} columns"
            problems.append(f"{where}: {count} (put numbers with a decimal comma in quotes)")
            continue
        text = "" if part is None else table.text(cells, part).lower()
        rows.append(
            Row(
                table.text(cells, image),
                sign * table.required_number(cells, score, where),
                where,
                group=(table.text(cells, group) or None) if group is not None else None,
                part=_PARTS.get(text, text) or None,
            )
        )
    if problems:
        raise LabelsError(f"{path} cannot be used", str(path), tuple(problems))
    relative = tree.images((row.image for row in rows), (".", "images", "Images"), near=path)
    paths = [found or find_image(path.parent, row.image) for row, found in zip(rows, relative, strict=True)]
    scale = f"{'-' if sign < 0 else ''}{table.header[score]}"
    return assemble(path.parent.name or "csv", rows, paths, scale=scale, labels=path)


def _find_table(tree: Tree, labels: str | None) -> Path:
    if labels is not None:
        given = home_expanded(labels)
        path = given if given.is_absolute() and given.is_file() else tree.find(labels)
        if path is None or not path.is_file():
            raise UsageError(f"no table {labels} in {tree.root}")
        return path
    path = tree.find("labels.csv")
    if path is not None:
        return path
    tables = sorted(entry for entry in tree.root.iterdir() if entry.suffix.lower() == ".csv")
    if len(tables) != 1:
        found = ", ".join(entry.name for entry in tables) or "none"
        raise UsageError(f"no labels.csv in {tree.root}, and not just one CSV file ({found}): name it with --csv")
    return tables[0]
