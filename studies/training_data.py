"""How fast one core feeds the low-level training of the paper's recipe from what `prepare --recipe paper` rendered.

    python studies/training_data.py pristine --photographs 24

Prints pictures of 224x224 (both views of every copy) a second, without and with rendered copies, for photographs of
several sizes (enlarged or shrunk from the folder's), and the process's memory. Prepared data may lie in the operating
system's page cache, as they do in the second epoch of a training whose data fit into memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.training.data.contrastive_views import ContrastiveViews
from grepq_iqa.training.data.prepare import prepare
from grepq_iqa.training.data.render_copies import render_copies
from grepq_iqa.training.recipe import LowLevelRecipe, load_recipe

SIDES = (512, 1024, 4096)
SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs_folder", type=Path)
    parser.add_argument("--photographs", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe("paper", "low_level", LowLevelRecipe)
    print(
        f"{'longer side':>11} {'rendered anew':>14} {'from prepared':>14} {'seconds to prepare a photograph':>32} MiB"
    )
    for side in SIDES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for index, path in enumerate(
                islice(iter_image_paths([str(options.photographs_folder)]), options.photographs)
            ):
                with Image.open(path) as picture:
                    factor = side / max(picture.size)
                    size = tuple(round(length * factor) for length in picture.size)
                    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(
                        folder / f"{index}.jpg", quality=95
                    )
            prepared = prepare([str(folder)], folder / "set")
            length = 1 << 20
            anew = rate(ContrastiveViews(prepared.photographs, recipe, length))
            started = time.monotonic()
            render_copies(prepared, recipe, folder / "set", workers=1)
            seconds = (time.monotonic() - started) / len(prepared.photographs)
            ready = rate(ContrastiveViews(prepared.photographs, recipe, length, folder / "set"))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{side:>11} {anew:>14.0f} {ready:>14.0f} {seconds:>32.2f} {memory:.0f}")


def rate(views: ContrastiveViews) -> float:
    """Pictures a second of one thread: two views of every copy of an item."""
    views[0]
    pictures, started, index = 0, time.monotonic(), 0
    while time.monotonic() - started < SECONDS:
        item = views[index]
        pictures += len(item["first"]) + len(item["second"])
        index += 1
    return pictures / (time.monotonic() - started)


if __name__ == "__main__":
    main()
