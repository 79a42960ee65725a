"""Finding files by names whose case cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from grepq_iqa.errors import UsageError


class Tree:
    """A folder in which names are looked up without regard to case; each folder is listed once.

    Raises:
        UsageError: ``root`` is not a folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise UsageError(f"{self.root} is not a folder: --root must name where the data set was unpacked")
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, relative: str, base: Path | None = None) -> Path | None:
        """The file or folder at this path below ``base`` (default: root), or None."""
        here = self.root if base is None else base
        for part in PurePosixPath(relative.strip().replace("\\", "/")).parts:
            if part in (".", "/"):
                continue
            exact = here / part
            found = exact if exact.exists() else self._listing(here).get(part.lower())
            if found is None:
                return None
            here = found
        return here

    def file(self, *names: str, name: str) -> Path:
        """The first of these files that exists, in root or in one folder below it.

        Args:
            names: relative paths, the preferred first.
            name: the data set, for the message.

        Raises:
            UsageError: there is none; the message lists what was looked for.
        """
        found = self.optional_file(*names)
        if found is None:
            raise self._not_found(names, name)
        return found

    def optional_file(self, *names: str) -> Path | None:
        """As `file`, but None where there is none."""
        return self._search(names, Path.is_file)

    def folder(self, *names: str, name: str) -> Path:
        """As `file`, of folders."""
        found = self._search(names, Path.is_dir)
        if found is None:
            raise self._not_found(names, name)
        return found

    def images(self, names: Iterable[str], folders: Iterable[str], near: Path) -> list[Path | None]:
        """The image behind each name, looked for in ``folders`` beside ``near`` or below root; None: not there.

        ``near`` is the label file: a data set moved one folder down keeps its images beside its labels.
        """
        bases: list[Path] = []
        for folder in folders:
            for start in (near.parent, near.parent.parent, self.root):
                inside = start == self.root or self.root in start.parents
                base = self.find(folder, start) if inside else None
                if base is not None and base.is_dir() and base not in bases:
                    bases.append(base)
        found: list[Path | None] = []
        for name in names:
            candidates = (self.find(name, base) for base in bases)
            found.append(next((path for path in candidates if path is not None and path.is_file()), None))
        return found

    def _search(self, names: Iterable[str], suits: Callable[[Path], bool]) -> Path | None:
        below = sorted(path for path in self._listing(self.root).values() if path.is_dir())
        for relative in names:
            for base in (self.root, *below):
                found = self.find(relative, base)
                if found is not None and suits(found):
                    return found
        return None

    def _not_found(self, names: Iterable[str], name: str) -> UsageError:
        return UsageError(
            f"{name}: {' or '.join(names)} was not found in {self.root} or one folder below it "
            f"(`grepq benchmark list` says where to get the data set)"
        )

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listings[folder] = {entry.name.lower(): entry for entry in entries}
        return self._listings[folder]
