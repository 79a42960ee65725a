"""The page for people, and what its scripts ask for: ``/``, ``/static/...``, ``/page/...``."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel, Field, ValidationError
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from grepq_iqa._version import __version__
from grepq_iqa.batch import Result
from grepq_iqa.data.formats import EXTENSIONS
from grepq_iqa.pages import shown
from grepq_iqa.rows import completed, score_row
from grepq_iqa.server.answers import Json, Refusal
from grepq_iqa.server.api import explained
from grepq_iqa.server.bodies import pictures_of, small_body
from grepq_iqa.server.labeling import FEWEST_LABELS, summary
from grepq_iqa.server.photos import Photo
from grepq_iqa.server.security import COOKIE, guard_of
from grepq_iqa.server.service import Service, service_of, unless_gone

M = TypeVar("M", bound=BaseModel)
router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# Read once, by name: no path that a client sends is ever joined to a folder.
_STATIC = {
    file.name: (file.read_bytes(), _TYPES[file.suffix])
    for file in sorted((_HERE / "static").iterdir())
    if file.suffix in _TYPES
}
_pages = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape(default=True))


class Choice(BaseModel):
    """How many photographs to label."""

    count: int = Field(20, ge=1, le=500)


class Rating(BaseModel):
    """A rating, or null to take it back."""

    rating: float | None = Field(ge=1, le=5)


@router.get("/")
async def index(request: Request) -> Response:
    """The page, or the sign-in where a token is needed."""
    if not guard_of(request).is_known(request.scope):
        return _page("sign_in.html", wrong=False)
    service = service_of(request)
    return _page(
        "index.html",
        version=__version__,
        model=shown(Path(service.model.name).name),
        folder=shown(service.settings.folder.name or service.settings.folder) if service.settings.folder else "",
        table=shown(service.labeling.table.path),
        most=service.settings.max_picture,
        fewest=FEWEST_LABELS,
        endings=" ".join(sorted(EXTENSIONS)),
    )


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """A cookie for the right token."""
    service, guard = service_of(request), guard_of(request)
    form = await small_body(request)
    given = parse_qs(form.decode("utf-8", "replace")).get("token", [""])[0]
    if not guard.is_token(given):
        service.metrics.refused.labels("token").inc()
        return _page("sign_in.html", 401, wrong=True)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, guard.session, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """One of our own files."""
    if name not in _STATIC:
        raise Refusal(404, "there is no such file", "unknown")
    content, kind = _STATIC[name]
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


@router.get("/favicon.ico")
async def favicon() -> Response:
    """Browsers ask for it unasked."""
    return Response(status_code=204)


@router.get("/page/photos")
async def photos(request: Request) -> Response:
    """Everything that the page shows after a reload."""
    service = service_of(request)
    labeling = service.labeling

    def work() -> dict[str, Any]:
        return {
            "photos": [_shown(service, photo) for photo in service.photos.all()],
            "table": str(labeling.table.path),
            "fit": None if labeling.fit is None else summary(labeling.fit),
        }

    return Json(await asyncio.to_thread(work))


@router.post("/page/photos")
async def add_photo(request: Request) -> Response:
    """A dropped photograph, scored."""
    service = service_of(request)
    service.require_room()
    async with pictures_of(request, service.settings, service.buffers) as pictures:
        picture = pictures[0]
        if picture.file is None:
            raise Refusal(413, picture.error or "too large", "too large")
        photo = await asyncio.to_thread(service.photos.add, picture.name, picture.file)
    return Json(await _scored(request, service, photo))


@router.delete("/page/photos")
async def forget_photos(request: Request) -> Response:
    """Take dropped photographs off the page; ratings stay in their table."""
    await asyncio.to_thread(service_of(request).photos.forget_dropped)
    return Json({})


@router.post("/page/photos/{number}/score")
async def score_photo(request: Request, number: int) -> Response:
    """Score one of the folder's photographs."""
    service = service_of(request)
    service.require_room()
    await small_body(request)
    return Json(await _scored(request, service, service.photos.get(number)))


@router.get("/page/photos/{number}/thumbnail")
async def photo_thumbnail(request: Request, number: int) -> Response:
    """A small JPEG of ours."""
    service = service_of(request)
    content = await asyncio.to_thread(service.photos.thumbnail, service.photos.get(number))
    return _picture(request, content)


@router.get("/page/photos/{number}/view")
async def photo_view(request: Request, number: int) -> Response:
    """A JPEG of ours to look at."""
    service = service_of(request)
    photo = service.photos.get(number)
    tag = await asyncio.to_thread(service.photos.view_tag, photo)
    if _has(request, tag):  # without decoding it
        return _picture(request, b"", tag)
    async with service.views:
        content = await asyncio.to_thread(service.photos.view, photo)
    return _picture(request, content, tag)


def _has(request: Request, tag: str) -> bool:
    return request.headers.get("if-none-match") == f'"{tag}"'


def _picture(request: Request, content: bytes, tag: str | None = None) -> Response:
    """A JPEG that a browser may keep and must ask about: the next server's photograph of this number is another one."""
    tag = tag or hashlib.sha256(content).hexdigest()[:32]
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{tag}"'}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)


@router.post("/page/photos/{number}/explain")
async def explain_photo(request: Request, number: int) -> Response:
    """Reasons of one photograph."""
    service = service_of(request)
    photo = service.photos.get(number)
    await small_body(request)

    def work() -> dict[str, Any]:
        found = service.model.explain(service.photos.source(photo), map=False)
        return explained(found, with_map=False)

    return Json(await unless_gone(request, service.queue.call(work)))


@router.get("/page/photos/{number}/map")
async def photo_map(request: Request, number: int) -> Response:
    """Where it is bad, drawn over the photograph."""
    service = service_of(request)
    photo = service.photos.get(number)

    def work() -> bytes:
        import io

        from grepq_iqa.data.thumbnails import thumbnail
        from grepq_iqa.explain import overlay

        source = service.photos.source(photo)
        model = service.model
        found = model.explain(source, map=True)
        stream = io.BytesIO()
        under = thumbnail(source, 1024, max_pixels=model.max_pixels)
        overlay(under, found.map).convert("RGB").save(stream, "JPEG", quality=90)
        return stream.getvalue()

    return Response(await unless_gone(request, service.queue.call(work)), media_type="image/jpeg")


@router.put("/page/photos/{number}/rating")
async def rate_photo(request: Request, number: int) -> Response:
    """Keep a rating; it is on the disk when this is answered."""
    given = _parsed(Rating, await small_body(request))
    labeling = service_of(request).labeling
    photo = labeling.photos.get(number)
    labels = await asyncio.to_thread(labeling.rate, photo, given.rating)
    return Json({"rating": given.rating, "labels": labels})


@router.post("/page/labeling/choose")
async def choose(request: Request) -> Response:
    """What `grepq select` would choose."""
    choice = _parsed(Choice, await small_body(request))
    return Json({"ids": await asyncio.to_thread(service_of(request).labeling.choose, choice.count)})


@router.post("/page/labeling/fit")
async def fit(request: Request) -> Response:
    """Fit on all ratings, and predict everything."""
    service = service_of(request)
    labeling = service.labeling
    await small_body(request)

    def work() -> dict[str, Any]:
        found = labeling.refit()
        predictions = {photo.id: labeling.prediction(photo) for photo in service.photos.all()}
        return {"fit": summary(found), "predictions": predictions}

    async with service.fitting:
        return Json(await asyncio.to_thread(work))


@router.get("/page/predictions.csv")
async def predictions(request: Request) -> Response:
    """Predictions of everything, as `grepq predict` writes them."""
    content = await asyncio.to_thread(service_of(request).labeling.predictions_csv)
    return Response(content, media_type="text/csv; charset=utf-8", headers=_attached("predictions.csv"))


@router.get("/page/labels.csv")
async def labels(request: Request) -> Response:
    """The table of ratings."""
    table = service_of(request).labeling.table
    try:
        content = await asyncio.to_thread(table.path.read_bytes)
    except OSError:
        raise Refusal(404, "nothing is rated yet", "unknown") from None
    return Response(content, media_type="text/csv; charset=utf-8", headers=_attached("grepq-labels.csv"))


@router.get("/page/model.zip")
async def model_zip(request: Request) -> Response:
    """The fitted model."""
    labeling = service_of(request).labeling
    with tempfile.NamedTemporaryFile(prefix="grepq-model-", suffix=".zip", delete=False) as file:
        path = Path(file.name)
    try:
        await asyncio.to_thread(labeling.write_model_zip, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    task = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", headers=_attached("my-model.zip"), background=task)


def _parsed(kind: type[M], body: bytes) -> M:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(422, f"the request cannot be read: {error.errors()[0]['msg']}", "invalid") from None


async def _scored(request: Request, service: Service, photo: Photo) -> dict[str, Any]:
    if photo.result is None:

        def finish(result: Result) -> dict[str, Any]:
            photo.result = result
            return _shown(service, photo)

        work = service.queue.score_one(
            photo.name,
            service.photos.source(photo),
            finish,
            lambda decoded: service.photos.note_pixels(photo, decoded),
        )
        answer: dict[str, Any] = await unless_gone(request, work)
        return answer
    return _shown(service, photo)


def _shown(service: Service, photo: Photo) -> dict[str, Any]:
    row = None if photo.result is None else completed("score", photo.result, score_row(photo.result))
    return {
        "id": photo.id,
        "name": photo.name,
        "folder": photo.of_folder,
        "thumbnail": photo.has_thumbnail,
        "row": row,
        "rating": service.labeling.rating(photo),
        "prediction": service.labeling.prediction(photo),
    }


def _page(template: str, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
