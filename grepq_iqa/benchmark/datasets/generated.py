"""Images made by text-to-image models: AGIQA-1K and AGIQA-3K.

Groups are what was asked for: answers of several generators to one prompt show one content.
"""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages, Row, assemble, table_rows
from grepq_iqa.benchmark.datasets.tree import Tree
from grepq_iqa.benchmark.datasets.workbooks import read_xlsx
from grepq_iqa.data.tables import read_table


def read_agiqa1k(root: str | Path) -> LabeledImages:
    """AGIQA-1K: ``AIGC_MOS_Zscore.xlsx`` and ``file/``; names are ``generator_subject_activity_place_style.jpg``.

    Where the workbook is missing, ``AIGC_all.csv`` of the repository (raw mean scores) is read. The authors' workbook
    lists ``dreamStudio_8_9_1_1.jpg`` twice with different scores; the first is kept.
    """
    name, tree = "AGIQA-1K", Tree(root)
    labels = tree.file("AIGC_MOS_Zscore.xlsx", "AIGC_all.csv", name=name)
    table = read_table(labels) if labels.suffix.lower() == ".csv" else read_xlsx(labels, ("Image", "MOS"))
    image, score = table.column("Image"), table.column("MOS", "Score")
    rows = []
    for where, cells in table.filled(image, score):
        file = table.text(cells, image)
        subject = "_".join(Path(file).stem.split("_")[1:3])
        rows.append(Row(file, table.required_number(cells, score, where), where, group=subject))
    paths = tree.images((row.image for row in rows), ("file", "images", "image", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 5", labels=labels, keep_first=True)


def read_agiqa3k(root: str | Path) -> LabeledImages:
    """AGIQA-3K: ``data.csv`` (``mos_quality`` is read, not ``mos_align``) and the images."""
    name, tree = "AGIQA-3K", Tree(root)
    labels = tree.file("data.csv", name=name)
    table = read_table(labels)
    image, prompt, score = table.column("name"), table.column("prompt"), table.column("mos_quality")
    rows = table_rows(table, image, score, group=prompt)
    paths = tree.images((row.image for row in rows), ("images", "image", "img", "AGIQA-3K", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 5", labels=labels)
