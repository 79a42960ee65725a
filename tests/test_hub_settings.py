"""A wrong proxy, certificate or address is said, and not put off until later; each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import needs


def download(**settings: str) -> subprocess.CompletedProcess:
    names = ("HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "HF_HUB_OFFLINE")
    clean = {key: value for key, value in os.environ.items() if key.upper() not in names}
    command = [sys.executable, "-m", "grepq_iqa", "weights", "download", "owner/repo"]
    return subprocess.run(command, env=clean | settings, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, ("SOCKS", "httpx[socks]")),
        ({"SSL_CERT_FILE": "/nowhere/bundle.pem"}, ("certificate", "SSL_CERT_FILE")),
        ({"HF_ENDPOINT": "http://127.0.0.1:99999"}, ("HF_ENDPOINT", "port")),
        ({"HF_ENDPOINT": "http://127.0.0.1:abc"}, ("HF_ENDPOINT", "port")),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, ("HTTPS_PROXY",)),
    ],
)
def test_the_setting_at_fault_is_named(settings, words, tmp_path):
    done = download(HF_HOME=str(tmp_path), **settings)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words) and "try again later" not in done.stderr


def test_a_server_that_nobody_vouches_for(tmp_path):
    """A real TLS server on loopback with a certificate of its own making."""
    trustme = needs("trustme")
    import ssl
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = download(HF_HOME=str(tmp_path), HF_ENDPOINT=f"https://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 2 and "not trusted" in done.stderr and "SSL_CERT_FILE" in done.stderr, done.stderr
