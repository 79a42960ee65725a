"""The application: routes, their guard, and what errors become."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from grepq_iqa._version import __version__
from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.server import api, page
from grepq_iqa.server.answers import Json, busy
from grepq_iqa.server.bodies import Buffers
from grepq_iqa.server.labeling import Labeling
from grepq_iqa.server.metrics import Metrics
from grepq_iqa.server.photos import PhotoStore
from grepq_iqa.server.rating_table import RatingTable
from grepq_iqa.server.scoring_queue import QueueFull, ScoringQueue
from grepq_iqa.server.security import Guard
from grepq_iqa.server.service import Service
from grepq_iqa.server.settings import Settings

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ


def create_app(model: GRepQ, settings: Settings, photographs: Iterable[Path] = ()) -> FastAPI:
    """An ASGI application around one loaded model; ``app.state.service.close()`` ends its threads.

    Args:
        model: loaded, fitted or not.
        settings: of the server.
        photographs: files in ``settings.folder`` that the page lists.

    Raises:
        UsageError: the table of ratings cannot be kept where it should.
    """
    metrics = Metrics()
    table = RatingTable(settings.table)
    photos = PhotoStore(settings, photographs, model.max_pixels)
    queue = ScoringQueue(model, capacity=settings.queue, batch_requests=settings.batch_requests, metrics=metrics)
    metrics.watch_queue(lambda: queue.occupied)
    app = FastAPI(
        title="grepq-iqa",
        version=__version__,
        description="No-reference image quality: scores without labels, and predictions on your own scale.",
        docs_url=None,  # both fetch scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service = Service(
        model=model,
        settings=settings,
        metrics=metrics,
        queue=queue,
        buffers=Buffers(settings.max_buffered),
        photos=photos,
        labeling=Labeling(model, photos, table),
    )
    app.include_router(api.router)
    app.include_router(page.router)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(GrepqError, _refused)
    app.add_exception_handler(QueueFull, _full)
    app.add_middleware(Guard, token=settings.token, hosts=settings.hosts, metrics=metrics)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return Json({"error": f"{where}: {first['msg']}"}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    sentence = error.reason if isinstance(error, ImageError) else str(error)  # without the path of a file of ours
    return Json({"error": sentence}, 400)


async def _full(request: Request, error: Exception) -> Response:
    return busy().response()
