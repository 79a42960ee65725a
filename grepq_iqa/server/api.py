"""The API for programs: ``/v1/...``, and what watches over the server."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from grepq_iqa._version import __version__
from grepq_iqa.batch import Result
from grepq_iqa.errors import GrepqError, ImageError
from grepq_iqa.rows import completed, predict_row, rounded, score_row
from grepq_iqa.server.answers import Json, Refusal
from grepq_iqa.server.bodies import Picture, pictures_of
from grepq_iqa.server.schemas import (
    ErrorAnswer,
    ExplainAnswer,
    ModelsAnswer,
    PredictAnswer,
    ScoreAnswer,
    State,
)
from grepq_iqa.server.scoring_queue import Finish
from grepq_iqa.server.service import Service, service_of, unless_gone

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "description": "One picture as it is, or several as files of a form.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "pictures": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
        },
    },
    "parameters": [
        {
            "name": "name",
            "in": "query",
            "required": False,
            "description": "What the answer calls a picture that is the whole body.",
            "schema": {"type": "string"},
        }
    ],
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The form cannot be read."},
    401: {"model": ErrorAnswer, "description": "A token is needed."},
    403: {"model": ErrorAnswer, "description": "Asked by a page of another site."},
    408: {"model": ErrorAnswer, "description": "The body came too slowly."},
    413: {"model": ErrorAnswer, "description": "Too many bytes."},
    421: {"model": ErrorAnswer, "description": "Asked under a name that was not allowed."},
    503: {"model": ErrorAnswer, "description": "Busy or about to stop; see Retry-After."},
}
_NOT_HERE: dict[int | str, dict[str, Any]] = {501: {"model": ErrorAnswer, "description": "This model cannot do it."}}


@router.post("/v1/score", response_model=ScoreAnswer, openapi_extra=_BODY, responses=_ERRORS)
async def score(request: Request) -> Response:
    """Zero-shot quality of one or several pictures."""
    service = service_of(request)
    rows = await _rows(request, service, "score", lambda result: completed("score", result, score_row(result)))
    return Json({"model": service.model.name, "rows": rows})


@router.post("/v1/predict", response_model=PredictAnswer, openapi_extra=_BODY, responses=_ERRORS | _NOT_HERE)
async def predict(request: Request, confidence: Annotated[float, Query(ge=0.5, le=0.999)] = 0.9) -> Response:
    """Mean opinion scores with intervals, on the scale of the model's labels, or from 0 to 100 by others' ratings."""
    service = service_of(request)
    source = predicts_by(service)
    if source is None:
        raise Refusal(501, f"model {service.model.name!r} has seen no labels; start with a fitted one", "no labels")

    def finish(result: Result) -> dict[str, Any]:
        return completed("predict", result, predict_row(service.model, result, confidence))

    rows = await _rows(request, service, "predict", finish)
    return Json({"model": service.model.name, "source": source, "confidence": confidence, "rows": rows})


@router.post("/v1/explain", response_model=ExplainAnswer, openapi_extra=_BODY, responses=_ERRORS)
async def explain(request: Request, map: bool = False) -> Response:
    """What is wrong with each picture, and where if asked for."""
    service = service_of(request)
    service.require_room()
    rows = []
    async with pictures_of(request, service.settings, service.buffers) as pictures:
        for picture in pictures:
            rows.append(await unless_gone(request, service.queue.call(_explaining(service, picture, map))))
    return Json({"model": service.model.name, "rows": rows})


@router.get("/v1/models", response_model=ModelsAnswer)
async def models(request: Request) -> Response:
    """Which model is loaded."""
    service = service_of(request)
    model = service.model
    one = {
        "name": model.name,
        "encoder_hash": model.encoder_hash,
        "feature_dim": model.feature_dim,
        "max_side": model.max_side,
        "max_pixels": model.max_pixels,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "predicts": predicts_by(service),
        "lower_is_better": service.model.lower_is_better,
        "explains": True,
    }
    return Json({"version": __version__, "models": [one]})


@router.get("/healthz", response_model=State, responses={503: {"model": State}})
async def healthz(request: Request) -> Response:
    """Whether the process works."""
    alive = service_of(request).queue.alive
    return Json({"status": "ok" if alive else "dead"}, 200 if alive else 503)


@router.get("/readyz", response_model=State, responses={503: {"model": State}})
async def readyz(request: Request) -> Response:
    """Whether new requests are taken."""
    service = service_of(request)
    state = "dead" if not service.queue.alive else "draining" if service.draining else "ok"
    return Json({"status": state}, 200 if state == "ok" else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def predicts_by(service: Service) -> str | None:
    """Whence predictions of the server's model come."""
    if hasattr(service.model, "regressor_"):
        return str(service.model.regressor_.source)
    return "ratings" if service.model.ratings is not None else None


def explained(found: Any, *, with_map: bool) -> dict[str, Any]:
    """An `Explanation` as JSON."""

    def reason(one: Any) -> dict[str, Any]:
        fields = {"name": one.name, "amount": one.amount, "percentile": one.percentile, "sentence": one.sentence}
        return {name: rounded(value) for name, value in fields.items()}

    return {
        "sentence": found.sentence,
        "reasons": [reason(one) for one in found.reasons],
        "amounts": [reason(one) for one in found.amounts],
        "map": base64.b64encode(_gray_png(found.map)).decode() if with_map and found.map is not None else None,
    }


async def _rows(request: Request, service: Service, command: str, finish: Finish) -> list[dict[str, Any]]:
    """A row for every picture of a request, in their order."""
    service.require_room()
    async with pictures_of(request, service.settings, service.buffers) as pictures:
        sources = [(one.name, one.file) for one in pictures if one.file is not None]
        found = iter(await unless_gone(request, service.queue.score_together(sources, finish)) if sources else [])
        return [
            next(found) if one.file is not None else completed(command, Result(one.name, error=one.error), {})
            for one in pictures
        ]


def _explaining(service: Service, picture: Picture, with_map: bool) -> Any:
    def work() -> dict[str, Any]:
        empty: dict[str, Any] = {"sentence": None, "reasons": [], "amounts": [], "map": None}
        if picture.file is None:
            return completed("score", Result(picture.name, error=picture.error), {}) | empty
        try:
            found = service.model.explain(picture.file, map=with_map)
        except ImageError as error:
            reason = error.reason + (f" ({error.hint})" if error.hint else "")
            return completed("score", Result(picture.name, error=reason), {}) | empty
        except (GrepqError, MemoryError) as error:
            return completed("score", Result(picture.name, error=str(error) or "not enough memory"), {}) | empty
        result = Result(picture.name, found.score)
        return completed("score", result, score_row(result)) | explained(found, with_map=with_map)

    return work


def _gray_png(values: Any) -> bytes:
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
