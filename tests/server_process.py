"""A real `grepq serve` on a free port of loopback, and raw sockets to it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path


class ServerProcess:
    """Started on entry, ended on exit; ``port`` and ``url`` say where. The limits of ``settings`` may be changed."""

    def __init__(
        self, *arguments: object, cwd: Path, environment: dict[str, str] | None = None, **limits: float
    ) -> None:
        changes = "".join(
            f"import grepq_iqa.server.{k.split('__')[0]} as m; m.{k.split('__')[1]} = {v!r}\n"
            for k, v in limits.items()
        )
        code = changes + "import sys; sys.argv[0] = 'grepq'\nfrom grepq_iqa.__main__ import main; main()"
        command = [sys.executable, "-c", code, "serve", *map(str, arguments), "--port", "0", "--threads", "1"]
        root = str(Path(__file__).parents[1])
        self._settings = {
            "cwd": cwd,
            "env": os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"} | (environment or {}),
        }
        self._command = command
        self.stderr: list[str] = []

    def __enter__(self) -> ServerProcess:
        self._temporary = tempfile.TemporaryDirectory(prefix="grepq-test-")  # a killed server cannot tidy up
        self._settings["env"]["TMPDIR"] = self._temporary.name
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, **self._settings)
        for line in self.process.stderr:
            self.stderr.append(line)
            found = re.search(r"open http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found[1])
                self.url = f"http://127.0.0.1:{self.port}"
                self._reader = threading.Thread(target=self._drain, daemon=True)
                self._reader.start()
                return self
        raise AssertionError("".join(self.stderr))

    def _drain(self) -> None:
        self.stderr.extend(self.process.stderr)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self._temporary.cleanup()

    def socket(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def head(self, path: str, length: int, method: str = "POST") -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {length}\r\n\r\n".encode()


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received
