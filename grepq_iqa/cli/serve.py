"""``grepq serve``: the HTTP service and the page."""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grepq_iqa.cli.loading import load_model
from grepq_iqa.cli.options import Device, Dtype, EngineName, MaxPixels, MaxSide, ModelName, Threads, set_threads
from grepq_iqa.cli.streaming import say_skipped
from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    import socket

_TABLE = "grepq-labels.csv"
_LEAST_TOKEN = 16
_MB = 1_000_000


def serve(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of photographs that the page lists; ratings are kept there. [default: none; ratings are kept "
            "in the working folder]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="GREPQ_SERVE_TOKEN", help="Clients must send it; 16 characters or more.", show_default=False
        ),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let everyone in who can reach the address.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which clients ask, besides localhost and addresses. May be repeated."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Table of ratings. [default: grepq-labels.csv in the folder]", show_default=False),
    ] = None,
    model: ModelName = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_side: MaxSide = None,
    max_pixels: MaxPixels = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Refuse larger pictures, in MB of the file.")] = 64,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are told to come again.")] = 64,
    batch_requests: Annotated[
        bool,
        typer.Option(
            "--batch-requests",
            help="Small pictures of different requests share a pass: faster, and last digits may move a little.",
        ),
    ] = False,
    threads: Threads = 0,
) -> None:
    """Serve a page to score, label and fit, and an API for programs.

    The API is described at /v1/openapi.json. A stop (Ctrl+C, or SIGTERM) answers what was accepted. Exit status: 0
    stopped, 2 wrong usage or no model.

    Examples:

      grepq serve

      grepq serve holiday/ --port 8080

      GREPQ_SERVE_TOKEN=$(openssl rand -hex 16) grepq serve --host 0.0.0.0
    """
    _require_protected(host, token, no_auth)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the folder that holds the photographs")
    if labels is not None and labels.suffix.lower() != ".csv":
        raise UsageError(f"{labels}: the table of ratings is a .csv file")
    _require_installed()
    set_threads(threads)

    from grepq_iqa.data.image_paths import iter_image_paths
    from grepq_iqa.server.app import create_app
    from grepq_iqa.server.process import bind
    from grepq_iqa.server.process import serve as serve_until_stopped
    from grepq_iqa.server.settings import Settings

    logging.basicConfig(level=logging.WARNING, format="grepq: %(message)s")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # strangers' broken files are told to them, not to the log
    listener = bind(host, port)
    try:
        skipped: Counter[str] = Counter()
        photographs = list(iter_image_paths([folder], skipped=skipped)) if folder is not None else []
        say_skipped(skipped)
        grepq = load_model(model, engine=engine, device=device, dtype=dtype, max_side=max_side, max_pixels=max_pixels)
        settings = Settings(
            token=token,
            hosts=frozenset(name.lower().rstrip(".") for name in [*(allow_host or []), *_own_name(host)]),
            folder=folder,
            table=labels or (folder or Path()) / _TABLE,
            max_picture=max_megabytes * _MB,
            max_request=max(256, 2 * max_megabytes) * _MB,
            max_buffered=max(256, 2 * max_megabytes) * _MB,
            queue=queue,
            batch_requests=batch_requests,
        )
        app = create_app(grepq, settings, photographs)
        _say_where(listener, app.state.service.labeling.table.path, len(photographs), folder, token)
        serve_until_stopped(app, listener, app.state.service.close)
    finally:
        listener.close()


def _require_protected(host: str, token: str | None, no_auth: bool) -> None:
    """Others than this machine's own users get in with a token, or because the user said so.

    Raises:
        UsageError: neither is the case, or both.
    """
    if token is not None and no_auth:
        raise UsageError("--token and --no-auth exclude each other")
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UsageError(
            f"a token has {_LEAST_TOKEN} or more printable ASCII characters; make one with: openssl rand -hex 16"
        )
    if token is None and not no_auth and not _is_loopback(host):
        raise UsageError(
            f"{host} can be reached by others: give --token (make one with: openssl rand -hex 16), or --no-auth to let "
            "everyone in"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_name(host: str) -> list[str]:
    """The name that the user listens on, where it is one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return [host]
    return []


def _require_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import jinja2  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the server needs {error.name}: pip install 'grepq-iqa[serve]'") from error


def _say_where(listener: socket.socket, table: Path, count: int, folder: Path | None, token: str | None) -> None:
    address, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)
    if folder is not None:
        typer.echo(f"grepq: {count} photographs in {folder}", err=True)
    typer.echo(f"grepq: ratings are kept in {table}", err=True)
    typer.echo(f"grepq: open http://{shown}:{port}/" + (" and sign in with the token" if token else ""), err=True)
