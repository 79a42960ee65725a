"""Who may ask, by which name, from which page; and what browsers may do with the answers.

Host: an address, ``localhost`` or a name that was allowed at the start. A page of another site that lets its own name
point here (DNS rebinding) asks under that name, and gets nothing. Origin and Sec-Fetch-Site: what a browser says a page
of another site asks for is refused. Token: in the header ``Authorization: Bearer``, or in the cookie that the page's
sign-in gives; compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grepq_iqa.server.answers import Refusal, no_content_leak, send_refusal
from grepq_iqa.server.metrics import Metrics
from grepq_iqa.server.settings import HEAD_BYTES

logger = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer" browsers call the origin of our own form "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer. No script or style but our own files, and nothing from elsewhere."""

COOKIE = "grepq_session"
_OPEN = frozenset(["/healthz", "/readyz", "/sign-in"])  # without a token
_SHELL = ("/static/",)  # files of ours that hold nothing of anyone's


class Guard:
    """Outermost: checks the request's head, adds headers to the answer, counts, and keeps tracebacks in the log.

    Args:
        app: what is guarded.
        token: None lets everyone in.
        hosts: allowed names besides addresses and ``localhost``.
        metrics: counts requests.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str], metrics: Metrics) -> None:
        self._app, self._hosts, self._metrics = app, hosts, metrics
        self._token = None if token is None else _digest(token)
        self.session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        scope["guard"] = self
        try:
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.reason).inc()
            if not status:
                await send_refusal(refusal, scope, receive, send_with_headers)
        except Exception as error:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not status:
                await JSONResponse(no_content_leak(error), 500)(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        # h11 limits heads that come in pieces; one that came whole is measured here.
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > HEAD_BYTES:
            close = {"Connection": "close"}
            raise Refusal(431, f"the request's head has more than {HEAD_BYTES} bytes", "too large", close)
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            hint = "ask by its address, or allow the name with --allow-host"
            raise Refusal(421, f"this server is not known by the name that it was asked under; {hint}", "host")
        _check_origin(scope, headers, hosts[0])
        if not self.lets_in(scope):
            wanted = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, "a token is needed: send it as Authorization: Bearer TOKEN", "token", wanted)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if "@" in host or "/" in host:
            return False
        name = name.rstrip(".")
        return name == "localhost" or name in self._hosts or _is_address(name)

    def lets_in(self, scope: Scope) -> bool:
        """Whether the request shows the token, or asks for what needs none."""
        path = scope["path"]
        if self._token is None or path in _OPEN or path.startswith(_SHELL):
            return True
        if path == "/" and scope["method"] in ("GET", "HEAD"):
            return True  # which then shows the sign-in
        return self.is_known(scope)

    def is_known(self, scope: Scope) -> bool:
        """Whether the request shows the token or the cookie that was given for it."""
        if self._token is None:
            return True
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(_digest(cookie.value), _digest(self.session))

    def is_token(self, given: str) -> bool:
        """Compared in constant time: digests are of one length whatever was given."""
        return self._token is None or hmac.compare_digest(_digest(given), self._token)


def guard_of(request: Request) -> Guard:
    """Of the server that got this request."""
    guard: Guard = request.scope["guard"]
    return guard


def _check_origin(scope: Scope, headers: Headers, host: str) -> None:
    """Pages of other sites get nothing, but a link to the page may be followed."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Refusal(403, "pages of other sites may not ask this server", "origin")
    site = headers.get("sec-fetch-site", "none")
    followed = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET" and scope["path"] == "/"
    if site not in ("same-origin", "none") and not followed:
        raise Refusal(403, "pages of other sites may not ask this server", "origin")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
