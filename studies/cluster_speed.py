"""What a photograph costs a worker of `grepq score-many`: bytes, and processor seconds to fetch, decode and encode it.

Three kinds: the files as they are (512x512 JPEG), 1024-pixel JPEG, and photographs of 12 megapixels, made by enlarging
the latter, since cameras' own are not at hand. Fetching is from a loopback S3 (moto, in a process of its own), so it
counts what the client computes, not a network's time. One thread; processor time, not time by the clock, so that other
programs disturb little. Every picture's figures go to --times, from which `cluster_simulation.py` draws.

Run: python studies/cluster_speed.py /work/shared/data/dev/images /work/shared/data/pristine --times TIMES.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from grepq_iqa.data.images import decode_image
from grepq_iqa.integrations import Scorer
from grepq_iqa.integrations.cluster.reading import fetch
from grepq_iqa.integrations.cluster.storage import Storage

MEGAPIXELS = 12


def main() -> None:
    """Print a line of means for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path, help="folder of 512x512 photographs")
    parser.add_argument("large", type=Path, help="folder of 1024-pixel photographs")
    parser.add_argument("--each", type=int, default=24)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--times", type=Path)
    parser.add_argument("--ray", action="store_true", help="only what a task costs Ray, with work that takes no time")
    options = parser.parse_args()
    if options.ray:
        print(json.dumps(cost_of_tasks()))
        return
    small = [path.read_bytes() for path in sorted(options.small.glob("*.jpg"))[:: 1500 // options.each][: options.each]]
    large = [path.read_bytes() for path in sorted(options.large.glob("*.jpg"))[:: 244 // options.each][: options.each]]
    kinds = {"512": small, "1024": large, "12mp": [enlarged(content) for content in large[: options.each // 2]]}
    scorer = Scorer(engine=options.engine, threads=1)
    model = scorer.load()
    engine = getattr(getattr(model, "engine", None), "name", "torch")
    figures: dict[str, Any] = {"processor": processor(), "engine": engine, "dtype": str(model.dtype), "kinds": {}}
    with LoopbackS3() as storage:
        for kind, contents in kinds.items():
            rows = []
            for i, content in enumerate([contents[0], *contents]):  # the first twice: it warms up
                key = f"s3://photos/{kind}/{i}.jpg"
                storage.fs.pipe_file(key.removeprefix("s3://"), content)
                fetched, fetching = cost(lambda key=key: fetch(key))
                image, decoding = cost(lambda f=fetched: decode_image(f, max_side=model.max_side))
                pixels = image.values if hasattr(image, "values") else image.pixels
                _, encoding = cost(lambda p=pixels: model.score_tensors([p]))
                rows.append([len(content), fetching, decoding, encoding])
            figures["kinds"][kind] = rows[1:]
            means = [sum(column) / len(column) for column in zip(*rows[1:], strict=True)]
            total = sum(means[1:])
            parts = dict(zip(("fetch", "decode", "encode"), means[1:], strict=True))
            words = {
                "kind": kind,
                "pictures": len(contents),
                "kilobytes": round(means[0] / 1000),
                **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in parts.items()},
                **{f"{name}_share": round(seconds / total, 3) for name, seconds in parts.items()},
                "pictures_a_second_a_core": round(1 / total, 2),
            }
            print(json.dumps(words), flush=True)
    print(json.dumps({key: value for key, value in figures.items() if key != "kinds"} | {"load": os.getloadavg()}))
    if options.times:
        options.times.write_text(json.dumps(figures) + "\n")


TASKS = 1000


def cost_of_tasks() -> dict[str, float]:
    """Milliseconds by the clock, and of this process, the driver, for each task of a Ray with two workers."""
    import ray

    from grepq_iqa.integrations.cluster.run import ray_session

    with ray_session(None, 2) as workers:
        times = {}
        for count in (10, TASKS):
            items = ray.data.from_items([{"fragment": i} for i in range(count)], override_num_blocks=count)
            done = items.map_batches(
                Nothing, batch_size=1, compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1
            )
            started = time.perf_counter(), time.process_time()
            assert len(list(done.iter_rows())) == count
            times[count] = time.perf_counter() - started[0], time.process_time() - started[1]
    each = [1000 * (many - few) / (TASKS - 10) for few, many in zip(times[10], times[TASKS], strict=True)]
    return {"clock_ms_a_task": round(each[0], 2), "driver_ms_a_task": round(each[1], 2)}


class Nothing:
    """A worker that hands back what it gets."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch."""
        return batch


def cost(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and this process's seconds of processor time."""
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


def enlarged(content: bytes) -> bytes:
    """The photograph at twelve megapixels, as a camera would save it."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    scale = (MEGAPIXELS * 1e6 / (image.width * image.height)) ** 0.5
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def processor() -> str:
    """The model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


class LoopbackS3:
    """Moto's server in a process of its own, with a bucket ``photos``."""

    def __enter__(self) -> Storage:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        storage = Storage("s3://photos")
        storage.fs.mkdir("photos")
        return storage

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    main()
