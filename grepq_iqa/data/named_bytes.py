"""A file in memory that keeps its name, by whose ending cameras' raw files are known and which errors tell."""

from __future__ import annotations

import io


class NamedBytes(io.BytesIO):
    """``content`` as a stream with a ``name``."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name
