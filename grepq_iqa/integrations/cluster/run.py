"""A run: its plan and settings beside its output, and Ray to work through what is not done yet."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from grepq_iqa.errors import GrepqError, UsageError
from grepq_iqa.integrations.cluster.fragments import Done, check_model, place, record, score_fragment
from grepq_iqa.integrations.cluster.plan import OWN_FOLDER, cut, iter_inputs, write_plan
from grepq_iqa.integrations.cluster.storage import INSTALL, Storage
from grepq_iqa.text import first_line

if TYPE_CHECKING:
    from grepq_iqa.integrations.scorer import Scorer
    from grepq_iqa.model import GRepQ

CONNECT_SECONDS = 10
OBJECT_STORE_BYTES = 100 << 20
"""Of a Ray that is started here. Only numbers of fragments and counts pass through it: pictures are read by the worker
that scores them, and rows are written by it."""

TASKS_A_WORKER = 100
"""So many tasks each worker gets in a run, at most one a fragment: many, so that the last one is short; not more, since
each takes Ray's driver some milliseconds (docs/cluster.md has the figures)."""

_SETTINGS = "run.json"


@dataclass(frozen=True)
class Run:
    """A run as it is stored.

    Attributes:
        output: its URL or folder.
        settings: everything that rows depend on.
        fragments: how many there are.
        files: how many inputs they consist of.
        done: numbers of those that are written.
    """

    output: str
    settings: Mapping[str, Any]
    fragments: int
    files: int
    done: frozenset[int] = frozenset()

    @property
    def todo(self) -> list[int]:
        """Numbers of the fragments that are not written."""
        return [i for i in range(self.fragments) if i not in self.done]


def require_output(output: Storage, inputs: Sequence[str], *, resume: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: it holds a run and this one does not resume, or other files, or is an input.
    """
    url = output.address(output.root)
    for given in inputs:
        storage = Storage(given)
        if storage.address(storage.root) == url:
            raise UsageError(f"{url} is an input and the output; give another --output")
    if output.exists(OWN_FOLDER, _SETTINGS):
        if not resume:
            raise UsageError(f"{url} holds a run; go on with it by --resume, or give another --output")
        return
    if resume and not output.exists(OWN_FOLDER):
        raise UsageError(f"{url} holds no run to go on with; leave --resume out")
    if output.fs.isfile(output.root):
        raise UsageError(f"{url} is a file; scores are written to a folder or prefix")
    held = output.fs.ls(output.root, detail=False) if output.exists() else []
    if any(str(name).rstrip("/").rpartition("/")[2] not in (OWN_FOLDER, "") for name in held if name != output.root):
        raise UsageError(f"{url} is not empty and holds no run of grepq score-many; give another --output")


def prepare(inputs: Sequence[str], output: Storage, settings: Mapping[str, Any], pictures: int) -> Run:
    """A new run, planned and stored, or the one that is stored, if its settings are these.

    Args:
        inputs: prefixes, folders, patterns or files.
        output: of the run, as `require_output` let pass.
        settings: everything that rows depend on.
        pictures: about how many make a fragment; a stored run keeps its own.

    Raises:
        UsageError: there are no inputs, or the settings are others than those stored.
    """
    url = output.address(output.root)
    settings = dict(settings) | {"inputs": [_address(given) for given in inputs]}
    if not output.exists(OWN_FOLDER, _SETTINGS):
        listed = chain.from_iterable(iter_inputs(given, output) for given in inputs)
        fragments, files = write_plan(output, cut(listed, pictures))
        if not fragments:
            raise UsageError(f"no images, .tar, .parquet or .arrow files found in {', '.join(inputs)}")
        stored = record(settings) | {"fragments": fragments, "files": files}
        output.write((json.dumps(stored, indent=1) + "\n").encode(), OWN_FOLDER, _SETTINGS)
        return Run(url, settings, fragments, files)
    try:
        stored = json.loads(output.read(OWN_FOLDER, _SETTINGS))
        known, fragments, files = stored["settings"], stored["fragments"], stored["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{output.join(OWN_FOLDER, _SETTINGS)} is damaged ({error}); give another --output") from error
    wanted = json.loads(json.dumps(settings))
    differ = [key for key in sorted(wanted.keys() | known.keys()) if wanted.get(key) != known.get(key)]
    if differ:
        was = ", ".join(f"{key} {known.get(key)}, now {wanted.get(key)}" for key in differ)
        raise UsageError(f"{url} was written with other settings ({was}); use those, or another --output")
    for name in output.names(OWN_FOLDER, "started"):  # of workers that have ended
        output.remove(OWN_FOLDER, "started", name)
    return Run(url, settings, fragments, files, written(output, fragments))


def written(output: Storage, fragments: int) -> frozenset[int]:
    """Numbers of the fragments whose files are there."""
    names = set(output.names())
    return frozenset(i for i in range(fragments) if "/".join(place(i)) in names)


@contextmanager
def ray_session(address: str | None, workers: int | None) -> Iterator[int]:
    """A connection to Ray, for the time of the block; how many workers there may be.

    Args:
        address: of a cluster, "auto" for the one of this machine; None: ``RAY_ADDRESS``, or else a Ray is started here
            and ended afterwards.
        workers: as asked for; None: the cluster's processors.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"scoring on many machines needs Ray ({first_line(error)}): {INSTALL}") from error
    began = not ray.is_initialized()
    if began:
        remote = address or os.environ.get("RAY_ADDRESS")
        _check_answers(remote)
        own: dict[str, Any] = {
            "num_cpus": workers,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": os.environ.get("RAY_TMPDIR"),
        }
        try:
            ray.init(
                address=remote or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **{} if remote else own,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"Ray at {remote or 'this machine'}: {first_line(error)}") from error
    with redirect_stdout(sys.stderr):  # Ray tells there, also when it ends, which of its processes have died
        try:
            yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        finally:
            if began:
                ray.shutdown()


def _check_answers(address: str | None) -> None:
    """See that something listens at ``address``, "host:port" with or without a scheme; Ray itself tries for minutes.

    Raises:
        UsageError: nothing does.
    """
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if not host or not port.isdecimal():  # "auto", "local", or none
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster answers at {address} ({error}): is that the head node's address?") from error


def describe(scorer: Scorer, settings_of: Callable[[GRepQ], dict[str, Any]], gpus: float = 0) -> dict[str, Any]:
    """Settings of the model as a worker loads it: what "auto" means there holds for all.

    Args:
        scorer: by which.
        settings_of: makes them of the model.
        gpus: share of a GPU that a worker takes.

    Raises:
        GrepqError: the model cannot be loaded there.
    """
    import ray

    def load() -> dict[str, Any]:
        return settings_of(scorer.load())

    with _our_errors():
        found: dict[str, Any] = ray.get(ray.remote(load).options(num_cpus=1, num_gpus=gpus).remote())
    return found


def score_on_ray(run: Run, scorer: Scorer, *, workers: int, gpus: float = 0) -> Iterator[Done]:
    """Score what a run has to do, on workers that each load the model once; what became of it, in any order.

    Pictures are read and rows are written by the workers. One that dies is replaced, and its fragments begin anew;
    those that it has written are passed over.

    Args:
        run: prepared.
        scorer: with the engine, number format and size of the run's settings.
        workers: processes, each with one processor.
        gpus: share of a GPU that each takes.

    Raises:
        GrepqError: a worker cannot load the model, or has another one.
    """
    import ray

    todo = run.todo
    if not todo:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    fragments = ray.data.from_items(
        [{"fragment": i} for i in todo], override_num_blocks=min(len(todo), TASKS_A_WORKER * workers)
    )
    scored = fragments.map_batches(
        FragmentWorker,
        fn_constructor_args=(run.output, scorer, dict(run.settings)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(todo)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=gpus or None,
    )
    with _our_errors():
        for row in scored.iter_rows():
            yield Done(row["fragment"], row["rows"], row["failed"], row["error"] or None)


class FragmentWorker:
    """What a Ray worker holds: for Ray Data's ``map_batches``, from a number of a fragment to what became of it.

    Args:
        output_url: of the run.
        scorer: by which.
        settings: of the run.
    """

    def __init__(self, output_url: str, scorer: Scorer, settings: Mapping[str, Any]) -> None:
        self._output_url, self._scorer, self._settings = output_url, scorer, settings

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One row for each fragment."""
        check_model(self._scorer, self._settings)
        done = [score_fragment(self._output_url, int(i), self._scorer, self._settings) for i in batch["fragment"]]
        rows = [asdict(one) | {"error": one.error or ""} for one in done]
        return {key: [row[key] for row in rows] for key in rows[0]}


@contextmanager
def _our_errors() -> Iterator[None]:
    """What a worker raised on purpose is raised here, without Ray's account of where it passed."""
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, GrepqError) as error:
        reason: BaseException | None = error
        # Ray's own errors of a task are also of the type of what the task raised.
        while reason is not None and (isinstance(reason, RayError) or not isinstance(reason, GrepqError)):
            reason = getattr(reason, "cause", None) or reason.__cause__
        if reason is None:
            raise UsageError(f"Ray: {first_line(error)}") from error
        raise reason from None


def _address(given: str) -> str:
    storage = Storage(given)
    return storage.address(storage.root)
