"""A real server: slow and half-sent requests, and how it stops. Limits are shortened so that tests are."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time

import pytest
from conftest import needs

needs("fastapi")
needs("uvicorn")

from server_process import ServerProcess, everything

SHORT = {
    "protocol__HEADER_SECONDS": 1.0,
    "bodies__IDLE_SECONDS": 1.0,
    "bodies__BODY_GRACE_SECONDS": 2.0,
}


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory):
    with ServerProcess("--model", tiny_model, cwd=tmp_path_factory.mktemp("serve"), **SHORT) as running:
        yield running


def answer_to(server: ServerProcess, body: bytes, path: str = "/v1/score") -> bytes:
    with server.socket() as connection:
        connection.sendall(server.head(path, len(body)).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
        return everything(connection)


def test_slow_heads_end_and_nobody_else_waits(server, photos):
    slow = [server.socket() for _ in range(40)]
    try:
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert b"200 OK" in answer_to(server, photos[0].read_bytes())
        for i in range(30):  # a byte now and then does not help
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(b"X-%d: a\r\n" % i)
            time.sleep(0.05)
        for connection in slow:
            connection.settimeout(10)
            assert (everything(connection) or b"HTTP/1.1 408 reset").startswith(b"HTTP/1.1 408")
        silent = server.socket(10)  # says nothing at all
        assert everything(silent).startswith(b"HTTP/1.1 408")
        silent.close()
        second = server.socket(10)  # a head that stops after a whole request
        second.sendall(server.head("/healthz", 0, "GET") + b"GET /hea")
        assert b"408 Request Timeout" in everything(second)
        second.close()
    finally:
        for connection in slow:
            connection.close()


def test_half_sent_and_trickling_bodies_end(server, photos):
    half = server.socket(10)
    half.sendall(server.head("/v1/score", 100_000) + b"x" * 100)
    trickle = server.socket(10)
    trickle.sendall(server.head("/v1/score", 100_000))
    ended = threading.Event()

    def drip():
        while not ended.wait(0.2):
            try:
                trickle.sendall(b"x")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert b"200 OK" in answer_to(server, photos[0].read_bytes())
        assert b"408" in everything(half).split(b"\r\n")[0]
        assert b"408" in everything(trickle).split(b"\r\n")[0]
    finally:
        ended.set()
        dripping.join()
        half.close()
        trickle.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(5000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_odd_and_oversized_heads_get_an_error_at_most(server, head):
    with server.socket(10) as connection:
        try:
            connection.sendall(head)
        except OSError:
            return  # it has hung up already
        reply = everything(connection)
    assert not reply or int(reply.split()[1]) in (400, 408, 421, 431), reply[:200]
    assert b"Traceback" not in reply
    assert b"200 OK" in answer_to(server, b"x")


def test_a_client_that_leaves_costs_nothing(server, photos):
    for _ in range(20):
        with server.socket() as connection:
            connection.sendall(server.head("/v1/score", photos[0].stat().st_size) + photos[0].read_bytes())
    assert b"200 OK" in answer_to(server, photos[0].read_bytes())
    assert server.process.poll() is None


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="this system has no SIGTERM")
def test_a_stop_answers_what_was_accepted_and_refuses_the_rest(tiny_model, photos, tmp_path):
    body = photos[0].read_bytes()
    with ServerProcess("--model", tiny_model, cwd=tmp_path) as server:
        accepted = [server.socket(60) for _ in range(12)]
        for connection in accepted[:-1]:
            connection.sendall(server.head("/v1/score", len(body)) + body)
        half = len(body) // 2
        accepted[-1].sendall(server.head("/v1/score", len(body)) + body[:half])  # still being sent
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), 2).recv(1)
        accepted[-1].sendall(body[half:])
        replies = [everything(connection) for connection in accepted]
        assert all(reply.startswith(b"HTTP/1.1 200") and b'"error":null' in reply for reply in replies), replies
        assert server.process.wait(20) == 0
        server._reader.join(5)
        assert "Traceback" not in "".join(server.stderr)


def test_a_stop_does_not_wait_for_ever_for_a_client(tiny_model, tmp_path):
    with ServerProcess("--model", tiny_model, cwd=tmp_path, process__DRAIN_SECONDS=1.0) as server:
        half = server.socket(30)
        half.sendall(server.head("/v1/score", 1000) + b"x")
        idle = server.socket(30)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0
        half.close()
        idle.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "give --token"),
        (["--host", "::"], "give --token"),
        (["--host", "0.0.0.0", "--token", "short"], "16 or more"),
        (["--token", "0123456789abcdef", "--no-auth"], "exclude each other"),
        (["no-such-folder"], "is not a folder"),
        (["--labels", "x.txt"], ".csv"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
        (["--labels", "missing/x.csv"], "--labels"),
    ],
)
def test_wrong_usage_is_a_sentence(grepq, tiny_model, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = grepq("serve", *arguments, "--port", "0", "--model", tiny_model)
    if "256.1.1.1" in arguments:
        assert status == 2 and ("give --token" in err or sentence in err)
        return
    assert status == 2 and sentence in err and "Traceback" not in err


def test_a_taken_port_is_a_sentence(grepq, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, err = grepq("serve", "--port", taken.getsockname()[1], "--model", tiny_model)
    assert status == 2 and "give another --port" in err


def test_all_addresses_with_a_token(tiny_model, tmp_path):
    token = "0123456789abcdef"
    with ServerProcess("--model", tiny_model, "--host", "0.0.0.0", cwd=tmp_path,
                       environment={"GREPQ_SERVE_TOKEN": token}) as server:  # fmt: skip
        assert b"401" in answer_to(server, b"x").split(b"\r\n")[0]
        with server.socket(10) as connection:
            head = server.head("/v1/models", 0, "GET").removesuffix(b"\r\n")
            connection.sendall(head + f"Connection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert b"200 OK" in everything(connection)
        assert token not in "".join(server.stderr)
