"""How a run of `grepq score-many` scales, simulated from measured times of pictures.

Tasks are handed to whichever worker is free first, as Ray Data does, each of them some fragments of 500 pictures, whose
times are drawn from those measured by `cluster_speed.py`. What disturbs, each an assumption that an option changes:

- workers that are slow by nature (2 % of them, three times as slow);
- skewed sizes: half of the fragments hold 512-pixel files, the others 1024-pixel ones or 12 megapixels, or with
  --containers, tars whose numbers of pictures are log-normal;
- machines that are taken away (spot): each worker once in 24 hours, which costs what it had of its fragment (half of
  one on average), a minute to come back, and then one picture at a time for the fragment that it left;
- loading the model (5 s a worker), and the driver, which hands out a task in 6 ms (`cluster_speed.py --ray`).

Run: python studies/cluster_simulation.py studies/cluster_times.json [--pictures 1e9]
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from grepq_iqa.cli.score_many import FRAGMENT
from grepq_iqa.integrations.cluster.run import TASKS_A_WORKER

SEED = 20
POOL = 20_000
"""Different fragments that are drawn from; each is a sum of 500 drawn pictures."""

SLOW_SHARE, SLOW_FACTOR = 0.02, 3.0
LOAD_SECONDS, DISPATCH_SECONDS = 5.0, 0.006
LOST_EVERY_HOURS, RETURN_SECONDS, ISOLATED_FACTOR = 24.0, 60.0, 1.2
SIZES = (0.5, 0.4, 0.1)
"""Shares of the kinds 512, 1024 and 12mp in skewed inputs."""

CONTAINER_SIGMA = 1.0
"""Of the logarithm of the number of pictures in a tar: one in six holds more than 2.7 times the median."""


def main() -> None:
    """Print a line for each number of workers and each kind of trouble."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=Path)
    parser.add_argument("--pictures", type=float, default=1e9)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 128, 1024, 4096])
    parser.add_argument("--tasks", type=int, default=TASKS_A_WORKER, help="a worker")
    options = parser.parse_args()
    kinds = json.loads(options.times.read_text())["kinds"]
    seconds = {kind: np.array(rows)[:, 1:].sum(axis=1) for kind, rows in kinds.items()}
    for workers in options.workers:
        for name, trouble in TROUBLES.items():
            rng = np.random.default_rng(SEED)
            fragments = round(options.pictures / FRAGMENT)
            pool = fragment_times(seconds, rng, skewed="sizes" in trouble, containers="containers" in trouble)
            made = simulate(pool, fragments, workers, options.tasks, rng, trouble)
            ideal = fragments * pool.mean() / workers
            line = {"workers": workers, "trouble": name, "hours": round(made / 3600, 2)}
            print(json.dumps(line | {"efficiency": round(ideal / made, 3)}), flush=True)


TROUBLES: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "slow workers": frozenset({"slow"}),
    "skewed sizes": frozenset({"sizes"}),
    "lost machines": frozenset({"lost"}),
    "all of these": frozenset({"slow", "sizes", "lost"}),
    "all, and tars": frozenset({"slow", "sizes", "lost", "containers"}),
}


def fragment_times(
    seconds: dict[str, NDArray[np.float64]], rng: Generator, *, skewed: bool, containers: bool
) -> NDArray[np.float64]:
    """Seconds of `POOL` fragments on a worker of ordinary speed."""
    kinds = rng.choice(list(seconds), size=POOL, p=SIZES) if skewed else np.full(POOL, next(iter(seconds)))
    counts = np.full(POOL, float(FRAGMENT))
    if containers:
        counts = FRAGMENT * np.exp(CONTAINER_SIGMA * rng.standard_normal(POOL) - CONTAINER_SIGMA**2 / 2)
    times = np.empty(POOL)
    for kind, values in seconds.items():
        at = kinds == kind
        # The sum of many independent draws is normal.
        noise = rng.standard_normal(at.sum()) * values.std() * np.sqrt(counts[at])
        times[at] = np.maximum(counts[at] * values.mean() + noise, values.min())
    return times


def simulate(
    pool: NDArray[np.float64], fragments: int, workers: int, tasks: int, rng: Generator, trouble: frozenset[str]
) -> float:
    """Seconds until the last fragment is written."""
    speed = np.ones(workers)
    if "slow" in trouble:
        speed[rng.random(workers) < SLOW_SHARE] = SLOW_FACTOR
    count = min(fragments, tasks * workers)
    sizes = np.full(count, fragments // count)
    sizes[: fragments % count] += 1
    free = [(LOAD_SECONDS, worker) for worker in range(workers)]
    heapq.heapify(free)
    dispatched = end = 0.0
    for size in sizes:
        dispatched += DISPATCH_SECONDS
        at, worker = heapq.heappop(free)
        work = pool[rng.integers(POOL, size=size)].sum() * speed[worker]
        if "lost" in trouble:
            each = work / size
            losses = rng.poisson(work / (LOST_EVERY_HOURS * 3600))
            work += losses * (RETURN_SECONDS + LOAD_SECONDS + each / 2 + (ISOLATED_FACTOR - 1) * each)
        at = max(at, dispatched) + work
        end = max(end, at)
        heapq.heappush(free, (at, worker))
    return end


if __name__ == "__main__":
    main()
