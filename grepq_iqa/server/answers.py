"""Errors that clients see: JSON with one sentence, and never where in our code it happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from grepq_iqa.server.settings import RETRY_AFTER_SECONDS


class Json(Response):
    """A JSON answer in ASCII, for names of files can hold bytes that are no text: escaped, they go there and back."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Refusal(Exception):
    """A request is answered with an error.

    Attributes:
        status: of HTTP.
        sentence: what is wrong and what to do.
        reason: a word for the metrics.
        headers: of the answer.
    """

    def __init__(self, status: int, sentence: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.sentence, self.reason, self.headers = status, sentence, reason, dict(headers or {})
        super().__init__(sentence)

    def response(self) -> Json:
        """As it is sent."""
        return Json({"error": self.sentence}, self.status, self.headers)


def busy() -> Refusal:
    """There is no room at the moment."""
    return Refusal(
        503,
        "the server has as much to do as it takes on; come again in a moment",
        "busy",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def too_large(what: str, most: int) -> Refusal:
    """More bytes than are taken; the connection ends, for the rest of the body is not read."""
    return Refusal(413, f"{what} has more than {most / 1e6:.0f} MB", "too large", {"Connection": "close"})


def too_slow() -> Refusal:
    """The rest of a body did not come."""
    return Refusal(408, "the rest of the request did not come in time", "too slow", {"Connection": "close"})


async def send_refusal(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by ASGI."""
    await refusal.response()(scope, receive, send)


def no_content_leak(error: BaseException) -> dict[str, Any]:
    """The answer to a fault of ours: nothing of the traceback."""
    return {"error": f"the server failed on this request ({type(error).__name__} is in its log)"}
