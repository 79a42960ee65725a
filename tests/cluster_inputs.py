"""Pictures for the tests of clusters: many, small, some of them broken, in every kind of file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image

SIDE = 96


def make_pictures(photos: list[Path], count: int) -> dict[str, bytes]:
    """Names and contents of different small pictures: every tenth broken, every fifth of another size."""
    originals = [Image.open(photo).convert("RGB") for photo in photos]
    found = {}
    for i in range(count):
        original = originals[i % len(originals)]
        left, top = (i * 37) % (original.width - 300), (i * 53) % (original.height - 200)
        picture = original.crop((left, top, left + 300, top + 200)).resize((SIDE + 16 * (i % 5 == 3), SIDE))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=90)
        content = stream.getvalue()
        if i % 10 == 7:
            content = (b"", content[:500], b"no picture", content[:30])[i // 10 % 4]
        found[f"{i // 20:03d}/{i:05d}.jpg"] = content
    return found


def write_files(pictures: dict[str, bytes], folder: Path) -> None:
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_tar(pictures: dict[str, bytes], path: Path) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in pictures.items():
            for member, data in ((name, content), (name.replace(".jpg", ".json"), b"{}")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
