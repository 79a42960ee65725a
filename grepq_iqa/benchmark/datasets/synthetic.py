"""Few references, many distorted copies of each: LIVE, CSIQ, TID2013, KADID-10k, PIPAL.

Groups are the references: copies of one never stand on both sides of a split. References themselves are not scored.
"""

from __future__ import annotations

from pathlib import Path

from grepq_iqa.benchmark.datasets.labeled_images import LabeledImages, Row, assemble, table_rows
from grepq_iqa.benchmark.datasets.tree import Tree
from grepq_iqa.benchmark.datasets.workbooks import read_mat, read_xlsx
from grepq_iqa.data.tables import read_table
from grepq_iqa.errors import LabelsError

# Order and number of the images behind LIVE's arrays, by the readme.txt of release 2.
_LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
# How CSIQ's sheet calls a distortion, and how its folders and files do.
_CSIQ_FILES = {"noise": "awgn", "awgn": "awgn", "jpeg2000": "jpeg2000", "jpeg": "jpeg"}


def read_live(root: str | Path) -> LabeledImages:
    """LIVE release 2: ``dmos_realigned.mat`` (else ``dmos.mat``), ``refnames_all.mat``, ``jp2k/ jpeg/ wn/ ...``.

    The undistorted copies that the authors mixed in (``orgs``) are left out: 779 of 982 images remain.
    """
    name, tree = "LIVE", Tree(root)
    labels = tree.file("dmos_realigned.mat", "dmos.mat", name=name)
    references = tree.file("refnames_all.mat", name=name)
    dmos = read_mat(labels, "dmos_new", "dmos")
    originals = read_mat(labels, "orgs")
    contents = read_mat(references, "refnames_all")
    files = _live_files(tree, labels.parent, len(dmos))
    if not len(dmos) == len(originals) == len(contents):
        raise LabelsError(
            f"{name}: {len(dmos)} scores, {len(originals)} flags and {len(contents)} reference names", str(labels)
        )
    rows = [
        Row(file, 100 - float(score), f"entry {i + 1}", group=content.lower())
        for i, (file, score, original, content) in enumerate(zip(files, dmos, originals, contents, strict=True))
        if not original
    ]
    paths = tree.images((row.image for row in rows), (".",), near=labels)
    return assemble(name, rows, paths, scale="100 - DMOS", labels=labels)


def read_csiq(root: str | Path) -> LabeledImages:
    """CSIQ: ``csiq.DMOS.xlsx`` (sheet ``all_by_image``) and ``dst_imgs/<type>/<image>.<TYPE>.<level>.png``."""
    name, tree = "CSIQ", Tree(root)
    labels = tree.file("csiq.DMOS.xlsx", name=name)
    table = read_xlsx(labels, ("image", "dst_type", "dst_lev", "dmos"), sheet="all_by_image")
    image, kind, level = table.column("image"), table.column("dst_type"), table.column("dst_lev")
    score = table.column("dmos")
    rows, files = [], []
    for where, cells in table.filled(image, score):
        content = table.text(cells, image)
        folder = table.text(cells, kind).lower().replace(" ", "")
        folder = _CSIQ_FILES.get(folder, folder)
        file = f"{content}.{folder}.{table.text(cells, level)}.png"
        files.append((f"{folder}/{file}", file))
        rows.append(Row(file, 1 - table.required_number(cells, score, where), where, group=content.lower()))
    folders = ("dst_imgs", "distorted_images", ".")
    nested = tree.images((path for path, _ in files), folders, near=labels)
    flat = tree.images((file for _, file in files), ("dst_imgs_all", *folders), near=labels)
    paths = [first or second for first, second in zip(nested, flat, strict=True)]
    return assemble(name, rows, paths, scale="1 - DMOS", labels=labels)


def read_tid2013(root: str | Path) -> LabeledImages:
    """TID2013: ``mos_with_names.txt`` (score, name) and ``distorted_images/``; those of reference 25 are ``i25_*``."""
    name, tree = "TID2013", Tree(root)
    labels = tree.file("mos_with_names.txt", name=name)
    rows, problems = [], []
    for number, line in enumerate(labels.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            score, file = line.split()
            rows.append(Row(file, float(score), f"line {number}", group=file.split("_")[0].lower()))
        except ValueError:
            problems.append(f"line {number}: expected a score and a name, got {line.strip()!r}")
    if problems:
        raise LabelsError(f"{name}: {labels} cannot be used", str(labels), tuple(problems))
    paths = tree.images((row.image for row in rows), ("distorted_images", "."), near=labels)
    return assemble(name, rows, paths, scale="MOS, 0 to 9", labels=labels)


def read_kadid(root: str | Path) -> LabeledImages:
    """KADID-10k: ``dmos.csv`` and ``images/``. Its ``dmos`` is a mean rating from 1 (bad) to 5: higher is better."""
    name, tree = "KADID-10k", Tree(root)
    labels = tree.file("dmos.csv", name=name)
    table = read_table(labels)
    image, content, score = table.column("dist_img"), table.column("ref_img"), table.column("dmos", "mos")
    rows = table_rows(table, image, score, group=content)
    paths = tree.images((row.image for row in rows), ("images", "."), near=labels)
    return assemble(name, rows, paths, scale="mean rating, 1 to 5", labels=labels)


def read_pipal(root: str | Path) -> LabeledImages:
    """PIPAL, training part: ``Train_Label/*.txt`` (name, Elo score), ``Train_Dist/`` or ``Distortion_1/`` and so on."""
    name, tree = "PIPAL", Tree(root)
    folder = tree.folder("Train_Label", name=name)
    rows, problems = [], []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt"):
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                file, score = (cell.strip() for cell in line.split(","))
                rows.append(Row(file, float(score), where, group=file.split("_")[0].lower()))
            except ValueError:
                problems.append(f"{where}: expected a name, a comma and a score, got {line.strip()!r}")
    if problems:
        raise LabelsError(f"{name}: labels in {folder} cannot be used", str(folder), tuple(problems))
    # The four archives unpack to Distortion_1 and so on, some tools to Distortion_1/Distortion_1.
    parts = [f"Distortion_{i}" for i in range(1, 5)]
    folders = ["Train_Dist", "Dist_Imgs", *parts, *(f"{part}/{part}" for part in parts)]
    folders += [f"Train_Dist/{part}" for part in parts]
    paths = tree.images((row.image for row in rows), folders, near=folder)
    return assemble(name, rows, paths, scale="Elo score", labels=folder)


def _live_files(tree: Tree, base: Path, entries: int) -> list[str]:
    """Relative path of every image behind LIVE's arrays, in their order."""
    sizes = dict(_LIVE_FOLDERS)
    if entries != sum(sizes.values()):
        for folder in sizes:
            info = tree.find(f"{folder}/info.txt", base)
            sizes[folder] = len([line for line in info.read_text().splitlines() if line.strip()]) if info else 0
        if entries != sum(sizes.values()):
            raise LabelsError(
                f"LIVE: {entries} scores, but release 2 has {sum(_LIVE_FOLDERS.values())} and the info.txt files of "
                f"{', '.join(sizes)} list {sum(sizes.values())} images",
                str(base),
            )
    return [f"{folder}/img{number}.bmp" for folder, size in sizes.items() for number in range(1, size + 1)]
