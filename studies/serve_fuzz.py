"""Ten thousand broken bodies to a real server: every one gets an answer, none is a fault, and the server lives.

Run: python studies/serve_fuzz.py [--bodies 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter

from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "PCX", "SGI", "JPEG2000", "AVIF")
TYPES = (
    "image/jpeg",
    "application/octet-stream",
    "",
    "multipart/form-data",
    "multipart/form-data; boundary=b",
    "a/" * 50,
)


def main() -> None:
    """Print how many answers of which status there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    seeds = [picture(rng, kind) for kind in FORMATS]
    statuses: Counter[int] = Counter()
    command = [sys.executable, "-m", "grepq_iqa", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r"open http://[^:]+:(\d+)/", line)))
        log: list[str] = []  # drained, because a full pipe would stop the server
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(options.bodies):
            connection.request("POST", "/v1/score", broken(rng, seeds), {"Content-Type": rng.choice(TYPES)})
            try:
                answer = connection.getresponse()
            except TimeoutError as error:
                raise SystemExit(f"no answer to body {number}") from error
            text = answer.read().decode()
            statuses[answer.status] += 1
            assert answer.status in (200, 400) and "Traceback" not in text and ".py" not in text, (
                number,
                answer.status,
                text,
            )
        connection.request("POST", "/v1/score", seeds[0])
        assert json.loads(connection.getresponse().read())["rows"][0]["error"] is None
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    print(
        json.dumps({"bodies": options.bodies, "statuses": statuses, "exit": process.returncode, "log_lines": len(log)})
    )


def picture(rng: random.Random, kind: str) -> bytes:
    """A small valid picture."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (24, 24), rng.randbytes(24 * 24 * 3)).save(stream, kind)
    return stream.getvalue()


def broken(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds, bent, cut, doubled, inside a form, or noise."""
    body = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 3, 30))):
        body[rng.randrange(len(body))] = rng.randrange(256)
    choice = rng.randrange(6)
    if choice == 0:
        del body[rng.randrange(len(body)) :]
    elif choice == 1:
        body += body[rng.randrange(len(body)) :]
    elif choice == 2:
        body = bytearray(rng.randbytes(rng.randrange(400)))
    elif choice == 3:
        name = rng.choice((b"a.jpg", b"../../x", b'"', b"\xff\xfe", b"<script>", b""))
        body = bytearray(b'--b\r\nContent-Disposition: form-data; name="f"; filename="' + name + b'"\r\n\r\n') + body
        body += rng.choice((b"\r\n--b--\r\n", b"\r\n--b", b""))
    return bytes(body)


if __name__ == "__main__":
    main()
