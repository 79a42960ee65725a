"""Making both networks of `grepq_iqa.explain` from folders of photographs, so that a stopped run can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from grepq_iqa.data.images import load_image
from grepq_iqa.encoders.perceptron import layers_state
from grepq_iqa.errors import UsageError
from grepq_iqa.explain.measures import measure
from grepq_iqa.explain.network import FILE, WORST, metadata, to_state
from grepq_iqa.explain.quality_map import FILE as MAP_FILE
from grepq_iqa.explain.quality_map import local_metadata
from grepq_iqa.explain.views import SCREEN, channels_last
from grepq_iqa.files import replacing, sha256_of, write_atomically
from grepq_iqa.training.quality_map import fit_local, make_cells
from grepq_iqa.training.reasons import Items, make_items
from grepq_iqa.training.reasons_fit import FOLDS, fit_reasons
from grepq_iqa.training.run_record import run_key

CHUNK = 100
FEWEST = 200
"""Items below which thresholds on clean photographs mean nothing."""

Arrays = tuple[NDArray[np.float32], ...]


def train_reasons(
    photographs: list[Path],
    in_the_wild: list[Path],
    out: Path,
    *,
    items: int,
    map_items: int,
    first_item: int = 0,
    seed: int = 0,
    cache: Path | None = None,
    on_done: Callable[[str, int], None] = lambda name, done: None,
) -> str:
    """Write ``reasons.safetensors`` and ``quality_map.safetensors`` into ``out``; returns a line about thresholds.

    Args:
        photographs: clean ones; of each, equally many items.
        in_the_wild: unlabeled ones, for the percentiles.
        out: folder.
        items, map_items: how many distorted pictures.
        first_item: index of the first of ``items``.
        seed: of all that is drawn.
        cache: folder of measures, kept apart by photographs and seed.
        on_done: told what is being done, and how much of it is.

    Raises:
        UsageError: too few photographs or items.
    """
    if len(photographs) < FOLDS or items < FEWEST or not in_the_wild:
        raise UsageError(
            f"at least {FOLDS} clean photographs, {FEWEST} items and one in-the-wild photograph are needed"
        )

    if cache is not None:
        cache /= run_key(*([sha256_of(path) for path in paths] for paths in (photographs, in_the_wild)), seed)

    def of_items(start: int, stop: int) -> Arrays:
        found = make_items(photographs, range(start, stop), seed)
        return found.measures, found.severities, found.photographs.astype(np.float32)

    def of_wild(start: int, stop: int) -> Arrays:
        return (
            np.stack(
                [measure(channels_last(load_image(path, max_side=SCREEN).numpy())) for path in in_the_wild[start:stop]]
            ),
        )

    def of_cells(start: int, stop: int) -> Arrays:
        return make_cells(photographs, range(start, stop), seed)

    measures, severities, origins = _all("items", range(first_item, first_item + items), of_items, cache, on_done)
    (wild,) = _all("wild", range(len(in_the_wild)), of_wild, cache, on_done)
    network = fit_reasons(Items(measures, severities, origins.astype(np.int64)), wild)
    about = {
        "items": f"{first_item} to {first_item + items - 1} of seed {seed}",
        "photographs": str(len(photographs)),
        "in_the_wild": str(len(in_the_wild)),
    }
    write_atomically(out / FILE.name, save(to_state(network), metadata() | about))
    local = fit_local(*_all("cells", range(map_items), of_cells, cache, on_done))
    state = {"mean": local.mean, "scale": local.scale} | layers_state(local.layers)
    write_atomically(out / MAP_FILE.name, save(state, local_metadata() | about | {"items": str(map_items)}))
    named = ", ".join(f"{name} {threshold / WORST:.0%}" for name, threshold in network.first.items())
    return f"named above these shares of the worst severity: {named}"


def _all(
    name: str,
    indices: range,
    make: Callable[[int, int], Arrays],
    cache: Path | None,
    on_done: Callable[[str, int], None],
) -> Arrays:
    """What ``make`` makes of all indices, in chunks, kept in and taken from ``cache``."""

    def chunks() -> Iterator[Arrays]:
        for start in range(indices.start, indices.stop, CHUNK):
            stop = min(start + CHUNK, indices.stop)
            path = None if cache is None else cache / f"{name}-{start:06d}-{stop:06d}.npz"
            if path is not None and path.exists():
                with np.load(path, allow_pickle=False) as stored:
                    yield tuple(stored[key] for key in stored.files)
            else:
                arrays = make(start, stop)
                if path is not None:
                    with replacing(path) as beside:
                        np.savez(beside, *arrays)
                yield arrays
            on_done(name, stop - indices.start)

    return tuple(np.concatenate(column) for column in zip(*chunks(), strict=True))
