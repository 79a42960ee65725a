"""The HTTP service inside this process: numbers, limits, who gets in, and what never leaves."""

from __future__ import annotations

import csv
import io
import json
import random
import zlib
from pathlib import Path

import pytest
from conftest import needs

needs("fastapi")
needs("uvicorn")

from PIL import Image
from starlette.testclient import TestClient

from grepq_iqa import GRepQ
from grepq_iqa.server.app import create_app
from grepq_iqa.server.bodies import plain_name
from grepq_iqa.server.settings import Settings

TOKEN = "0123456789abcdef"
CODE_MARKS = ("Traceback", 'File "', ".py", "grepq_iqa")


@pytest.fixture(scope="module")
def model(tiny_model) -> GRepQ:
    return GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")


@pytest.fixture
def serve(model, tmp_path):
    """A client of a server with these settings; ended after the test."""
    ended = []

    def start(photographs=(), base_url="http://localhost", model=model, **settings) -> TestClient:
        app = create_app(model, Settings(**{"table": tmp_path / "grepq-labels.csv"} | settings), photographs)
        ended.append(app.state.service)
        return TestClient(app, base_url=base_url, raise_server_exceptions=False)

    yield start
    for service in ended:
        assert service.close()


def small(side: int = 96, seed: int = 0, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = random.Random(seed).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), pixels).save(stream, format)
    return stream.getvalue()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, photos) -> list[Path]:
    """Photographs of many sizes and kinds, some neighbors of one size, one broken, one a TIFF of 16 bits."""
    folder = tmp_path_factory.mktemp("mixed")
    made = []
    for i, side in enumerate((96, 96, 96, 200, 96, 128, 128, 333, 40, 96)):
        picture = Image.open(photos[i % 4]).convert("RGB").resize((side, side))
        made.append(folder / f"{i}{'.jpg' if i % 2 else '.png'}")
        picture.save(made[-1])
    made.append(folder / "broken.jpg")
    made[-1].write_bytes(made[1].read_bytes()[:300])
    made.append(folder / "sixteen.tif")
    Image.fromarray(__import__("numpy").linspace(0, 65535, 96 * 120).astype("uint16").reshape(96, 120)).save(made[-1])
    return [*made, *photos]


@pytest.mark.parametrize("command", ["score", "predict"])
def test_numbers_are_those_of_the_command_line_to_the_last_digit(
    command, serve, grepq, tiny_model, mixed, model, tmp_path
):
    import numpy as np

    if command == "predict":
        rng = np.random.default_rng(0)
        fitted = GRepQ.from_pretrained(tiny_model, device="cpu", dtype="float32")
        fitted.fit(features=rng.normal(size=(30, model.feature_dim)), mos=rng.normal(size=30))
        directory = fitted.save_pretrained(tmp_path / "fitted")
        client = serve(model=GRepQ.from_pretrained(directory, device="cpu", dtype="float32"))
    else:
        directory, client = tiny_model, serve()
    status, out, _ = grepq(
        command, *mixed, "--model", directory, "--format", "jsonl", "--dtype", "float32", "--device", "cpu"
    )
    assert status == 1  # one is broken
    theirs = [json.loads(line) for line in out.splitlines()]
    together = client.post(f"/v1/{command}", files=[("f", (path.name, path.read_bytes())) for path in mixed]).json()[
        "rows"
    ]
    assert [row["path"] for row in together] == [path.name for path in mixed]
    for ours, row in zip(together, theirs, strict=True):
        assert ours == row | {"path": ours["path"]}
    for path in mixed[3:8]:  # one request for each: as `grepq score` of one file
        status, out, _ = grepq(
            command, path, "--model", directory, "--format", "jsonl", "--dtype", "float32", "--device", "cpu"
        )
        alone = client.post(f"/v1/{command}?name={path.name}", content=path.read_bytes()).json()["rows"]
        assert alone == [json.loads(out) | {"path": path.name}]
    if command == "predict":
        client.app.state.service.close()


def test_requests_may_share_a_pass_where_that_was_asked_for(serve, model):
    import asyncio

    from grepq_iqa.rows import score_row

    client = serve(batch_requests=True)
    pictures = [small(96, seed) for seed in range(6)]
    queue = client.app.state.service.queue

    async def at_once():
        return await asyncio.gather(*[queue.score_one("x", io.BytesIO(one), score_row) for one in pictures])

    found = [row["score"] for row in asyncio.run(at_once())]
    expected = [float(model.score(one)) for one in pictures]
    assert found == pytest.approx(expected, rel=1e-5) and len(set(found)) == 6


def test_answers_are_what_the_description_says(serve, mixed):
    jsonschema = needs("jsonschema")
    client = serve()
    described = client.get("/v1/openapi.json").json()

    def check(path: str, method: str, answer) -> None:
        response = described["paths"][path][method]["responses"][str(answer.status_code)]
        schema = response["content"]["application/json"]["schema"] | {"components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())

    body = mixed[0].read_bytes()
    check("/v1/score", "post", client.post("/v1/score", content=body))
    check("/v1/score", "post", client.post("/v1/score", content=b"no picture"))
    check("/v1/score", "post", client.post("/v1/score", files={"no": (None, "file")}))
    check("/v1/explain", "post", client.post("/v1/explain?map=true", content=body))
    check("/v1/predict", "post", client.post("/v1/predict", content=body))
    check("/v1/models", "get", client.get("/v1/models"))
    check("/healthz", "get", client.get("/healthz"))
    check("/readyz", "get", client.get("/readyz"))
    assert client.post("/v1/predict?confidence=2", content=body).status_code == 422


def test_explain_answers_what_the_model_says(serve, model, photos, monkeypatch):
    """With the interface of the explain room, whether or not this version has it."""
    import numpy as np

    from grepq_iqa.rows import rounded

    class Reason:
        name, amount, percentile, sentence = "noise", 0.1234567, 99.0, "It is noisy."

    class Explanation:
        reasons, amounts, sentence = (Reason,), (Reason, Reason), "It is noisy."

    def explain(self, image, *, map=False):
        found = Explanation()
        found.score, found.map = self.score(image.read()), np.eye(4, dtype=np.float32) if map else None
        return found

    monkeypatch.setattr(GRepQ, "explain", explain, raising=False)
    client = serve()
    assert client.post("/v1/explain", content=photos[0].read_bytes()).json()["rows"][0]["error"] is None
    rows = client.post(
        "/v1/explain?map=1", files=[("a", ("a.jpg", photos[0].read_bytes())), ("b", ("b", b"x"))]
    ).json()["rows"]
    expected = {"name": "noise", "amount": 0.123457, "percentile": 99.0, "sentence": "It is noisy."}
    assert rows[0]["reasons"] == [expected] and len(rows[0]["amounts"]) == 2 and rows[0]["error"] is None
    assert rows[0]["score"] == rounded(float(model.score(photos[0])))
    assert Image.open(io.BytesIO(__import__("base64").b64decode(rows[0]["map"]))).size == (4, 4)
    assert rows[1]["score"] is None and "not an image" in rows[1]["error"]


# --- limits ----------------------------------------------------------------------------------------------------------


def png_bomb(side: int = 60_000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(1 << 20), 9) * 4
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_decompression_bombs_are_entries_with_an_error(serve):
    client = serve()
    gif = b"GIF89a" + (65_535).to_bytes(2, "little") * 2 + b"\xf0\0\0" + bytes(6) + b";"
    for bomb in (png_bomb(), gif):
        row = client.post("/v1/score", content=bomb).json()["rows"][0]
        assert row["score"] is None and row["error"]
    assert "megapixels" in client.post("/v1/score", content=png_bomb()).json()["rows"][0]["error"]


def test_what_would_run_programs_is_not_opened(serve):
    row = (
        serve()
        .post("/v1/score?name=a.jpg", content=b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n")
        .json()["rows"][0]
    )
    assert "program that is not run" in row["error"]


def test_bytes_are_limited_before_they_are_read(serve):
    client = serve(max_picture=10_000, max_request=30_000, max_files=3)
    assert client.post("/v1/score", content=bytes(10_001)).status_code == 413
    assert client.post("/v1/score", content=iter([bytes(6_000)] * 2)).status_code == 413  # no length told
    big, good = bytes(10_001), small(40)
    rows = client.post("/v1/score", files=[("a", ("big", big)), ("b", ("good.png", good))]).json()["rows"]
    assert "more than" in rows[0]["error"] and rows[1]["error"] is None
    assert client.post("/v1/score", files=[("a", (f"{i}", b"x")) for i in range(4)]).status_code == 400
    assert client.post("/v1/score", files=[("a", ("a", bytes(31_000)))]).status_code == 413
    assert client.app.state.service.buffers.held == 0


def test_all_bodies_together_are_limited(serve):
    client = serve(max_buffered=5_000)
    answer = client.post("/v1/score", content=bytes(6_000))
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
    assert client.app.state.service.buffers.held == 0
    assert client.post("/v1/score", content=b"small").status_code == 200


def test_a_full_queue_says_when_to_come_again(serve, model, monkeypatch):
    import threading

    client, goes_on = serve(queue=1), threading.Event()
    real = GRepQ.score_prepared
    monkeypatch.setattr(GRepQ, "score_prepared", lambda self, images: (goes_on.wait(30), real(self, images))[1])
    answers = []
    first = threading.Thread(target=lambda: answers.append(client.post("/v1/score", content=small())))
    first.start()
    while not client.app.state.service.queue.occupied:
        pass
    busy = client.post("/v1/score", content=small())
    assert busy.status_code == 503 and busy.headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200
    goes_on.set()
    first.join(30)
    assert answers[0].status_code == 200 and client.post("/v1/score", content=small()).status_code == 200


def test_five_hundred_broken_bodies_kill_nothing(serve, photos):
    """`studies/serve_fuzz.py` sends ten thousand to a real process."""
    client, rng = serve(), random.Random(0)
    seeds = [small(16, format=kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA")]
    for i in range(500):
        body = bytearray(seeds[i % len(seeds)])
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        if i % 3 == 0:
            del body[rng.randrange(len(body)) :]
        headers = {
            "Content-Type": rng.choice(["image/png", "", "multipart/form-data", "multipart/form-data; boundary=x"])
        }
        answer = client.post("/v1/score", content=bytes(body), headers=headers)
        assert answer.status_code in (200, 400), answer.text
        assert not any(mark in answer.text for mark in CODE_MARKS), answer.text
    assert client.post("/v1/score", content=photos[0].read_bytes()).json()["rows"][0]["error"] is None
    assert client.app.state.service.buffers.held == 0 and client.app.state.service.queue.occupied == 0


# --- who gets in -----------------------------------------------------------------------------------------------------


def test_wrong_and_missing_tokens(serve, monkeypatch):
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (compared.append((len(a), len(b))), real(a, b))[1])
    client = serve(token=TOKEN)
    for path in ("/v1/models", "/metrics", "/page/photos", "/v1/openapi.json", "/page/labels.csv", "/page/model.zip"):
        assert client.get(path).status_code == 401
        for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "\u00e9" * 16):
            headers = {"Authorization": f"Bearer {wrong}".encode()}
            assert client.get(path, headers=headers).status_code == 401
        assert client.get(path, headers={"Cookie": "grepq_session=guess"}).status_code == 401
    assert client.post("/v1/score", content=b"x").status_code == 401
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert compared and all(a == b == 32 for a, b in compared)  # digests: neither length nor content shows in the time


def test_signing_in_gives_a_cookie_that_pages_of_others_do_not_get(serve):
    client = serve(token=TOKEN)
    assert "Sign in" in client.get("/").text and "data-table" not in client.get("/").text
    wrong = client.post("/sign-in", data={"token": "wrong"}, follow_redirects=False)
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
    right = client.post("/sign-in", data={"token": TOKEN}, follow_redirects=False)
    cookie = right.headers["set-cookie"].lower()
    assert right.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie
    assert "Drop photographs" in client.get("/").text and client.get("/page/photos").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:9", 200), ("192.168.0.7:8000", 200), ("mine.example", 200),
     ("evil.example", 421), ("localhost.evil.example", 421), ("evil.example@localhost", 421), ("a/../localhost", 421),
     ("", 421), ("localhost:x", 421), ("LOCALHOST.", 200)],
)  # fmt: skip
def test_other_names_are_refused(serve, host, status):
    client = serve(hosts=frozenset(["mine.example"]))
    assert client.get("/v1/models", headers={"Host": host}).status_code == status


def test_pages_of_other_sites_get_nothing(serve):
    client = serve()
    body = small()
    assert client.post("/v1/score", content=body, headers={"Origin": "http://localhost"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:3000", "http://localhost.evil.example"):
        refused = client.post("/v1/score", content=body, headers={"Origin": origin})
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
        asked = client.options("/v1/score", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert asked.status_code == 403 and "access-control-allow-origin" not in asked.headers
    for site in ("cross-site", "same-site"):
        assert (
            client.get("/page/photos", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
        )
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_every_answer_carries_the_headers(serve):
    client = serve(token=TOKEN)
    for path in ("/", "/static/app.js", "/nothing", "/v1/models", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers and "server" not in headers
    assert client.get("/v1/models", headers={"Host": "evil.example"}).headers["x-frame-options"] == "DENY"


def test_our_pages_have_nothing_inline_and_nothing_from_elsewhere():
    room = Path(__file__).parents[1] / "grepq_iqa" / "server"
    for file in [*room.glob("templates/*"), *room.glob("static/*")]:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, file
        if file.suffix == ".html":
            assert " style=" not in text and " on" not in text.replace(" one", "").replace(" on your", ""), file
            assert text.count("<script") == text.count('src="/static/'), file
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text


def test_no_traceback_leaves_the_server(serve, monkeypatch, caplog):
    client = serve()
    monkeypatch.setattr(GRepQ, "score_prepared", lambda *_: 1 / 0)
    answer = client.post("/v1/score", content=small())
    assert answer.status_code == 500 and not any(mark in answer.text for mark in CODE_MARKS)
    assert "division" not in answer.text and "division" in caplog.text
    monkeypatch.undo()
    assert client.post("/v1/score", content=small()).json()["rows"][0]["error"] is None  # the thread lives


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\x\\a.jpg", "x/a.jpg"),
        ("/etc/a", "etc/a"),
        ("~/a", "a"),
        ("a\0b\nc.jpg", "a_b_c.jpg"),
        ("a\u202eb", "a_b"),
        ("=cmd|x!A1.jpg", "./=cmd|x!A1.jpg"),
        ("holiday/a b.jpg", "holiday/a b.jpg"),
        ("<b>x</b>.jpg", "<b>x</b>.jpg"),
        ("..", ""),
    ],
)
def test_names_from_clients_lead_nowhere(given, plain):
    assert plain_name(given) == plain


def test_nothing_of_a_name_is_opened(serve, tmp_path, photos):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photos[0].read_bytes())
    client = serve()
    for name in (str(secret), f"file://{secret}", "http://localhost/a.jpg", f"../{secret}"):
        row = client.post("/v1/score", params={"name": name}, content=b"not a picture").json()["rows"][0]
        assert row["score"] is None
        shown = client.post("/page/photos", params={"name": name}, content=b"not a picture").json()
        assert shown["row"]["error"] and client.get(f"/page/photos/{shown['id']}/view").status_code == 404
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/page/photos/../../etc/passwd", "/page/photos/999/view",
                 "/page/photos/-1/view", "//etc/passwd", "/static/%2e%2e/%2e%2e/errors.py"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (404, 405, 422) and not any(mark in answer.text for mark in CODE_MARKS), path


# --- the page's session ----------------------------------------------------------------------------------------------


@pytest.fixture
def labeled(serve, photos, tmp_path):
    """A client of a server with a folder of twelve photographs, scored; the answers of their scoring."""
    folder = tmp_path / "holiday"
    (folder / "day 1").mkdir(parents=True)
    for i in range(12):
        picture = Image.open(photos[i % 4]).convert("RGB").rotate(i).resize((120 + i, 96))
        picture.save(folder / "day 1" / f"{i}.jpg")
    client = serve(sorted(folder.rglob("*.jpg")), folder=folder, table=folder / "grepq-labels.csv")
    listed = client.get("/page/photos").json()["photos"]
    return client, folder, [client.post(f"/page/photos/{one['id']}/score").json() for one in listed]


def test_the_whole_loop(labeled, grepq, tiny_model, tmp_path):
    from zipfile import ZipFile

    client, folder, shown = labeled
    assert all(one["row"]["error"] is None and one["thumbnail"] for one in shown)
    assert client.post("/page/labeling/fit").json()["error"].startswith("0 photographs are rated; 10 are needed")
    assert client.get("/page/model.zip").status_code == 400
    chosen = client.post("/page/labeling/choose", json={"count": 11}).json()["ids"]
    assert len(set(chosen)) == 11
    for i, number in enumerate(chosen):
        answer = client.put(f"/page/photos/{number}/rating", json={"rating": 1 + i % 5}).json()
        assert answer == {"rating": 1 + i % 5, "labels": i + 1}
        with (folder / "grepq-labels.csv").open() as file:  # on the disk at every key
            assert len(list(csv.DictReader(file))) == i + 1
    assert len(client.post("/page/labeling/choose", json={"count": 11}).json()["ids"]) == 1
    fit = client.post("/page/labeling/fit").json()
    assert fit["fit"]["labels"] == 11 and fit["fit"]["srcc"]["low"] <= fit["fit"]["srcc"]["high"]
    assert any("more labels would add" in sentence for sentence in fit["fit"]["sentences"])
    assert all(one["low"] <= one["mos"] <= one["high"] for one in fit["predictions"].values())
    assert client.get("/page/photos").json()["fit"]["labels"] == 11  # after a reload

    # What was downloaded predicts the same on the command line, and the table is one for `grepq fit`.
    with ZipFile(io.BytesIO(client.get("/page/model.zip").content)) as archive:
        archive.extractall(tmp_path)
    rows = list(csv.DictReader(io.StringIO(client.get("/page/predictions.csv").text)))
    path = folder / rows[0]["path"]
    status, out, err = grepq(
        "predict", path, "--model", tmp_path / "my-model", "--format", "jsonl", "--dtype", "float32"
    )
    assert status == 0, err
    expected = json.loads(out)
    assert [float(rows[0][name]) for name in ("mos", "low", "high")] == [
        expected[name] for name in ("mos", "low", "high")
    ]
    arguments = ("--csv", folder / "grepq-labels.csv", "-o", tmp_path / "again", "--model", tiny_model)
    status, out, err = grepq("fit", *arguments, "--no-cache", "--json")
    assert status == 0, err
    assert json.loads(out)["labels"] == 11


def test_ratings_survive_a_crash_and_other_peoples_edits(labeled, serve):
    client, folder, shown = labeled
    table = folder / "grepq-labels.csv"
    client.put(f"/page/photos/{shown[0]['id']}/rating", json={"rating": 4})
    table.write_text(table.read_text().replace(",4,", ",2,") + "elsewhere.jpg,5,\n")  # in a spreadsheet
    client.put(f"/page/photos/{shown[1]['id']}/rating", json={"rating": 3})
    with table.open() as file:
        rows = {row["path"]: row["mos"] for row in csv.DictReader(file)}
    assert rows == {shown[0]["name"]: "2", "elsewhere.jpg": "5", shown[1]["name"]: "3"}
    # Another server, as after a crash; and a photograph that comes back under another name is known by its content.
    again = serve(table=table)
    content = (folder / shown[0]["name"]).read_bytes()
    assert again.post("/page/photos?name=renamed.jpg", content=content).json()["rating"] == 2
    assert again.put(f"/page/photos/{1}/rating", json={"rating": None}).status_code == 200
    with table.open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["elsewhere.jpg", shown[1]["name"]]


def test_a_table_that_is_not_ours_is_never_written_over(serve, tmp_path):
    theirs = tmp_path / "grepq-labels.csv"
    theirs.write_text("path,mos\na.jpg,3\n")
    client = serve()
    assert client.get("/page/photos").json()["table"] == str(tmp_path / "grepq-labels-2.csv")
    shown = client.post("/page/photos?name=a.png", content=small()).json()
    client.put(f"/page/photos/{shown['id']}/rating", json={"rating": 1})
    assert theirs.read_text() == "path,mos\na.jpg,3\n" and (tmp_path / "grepq-labels-2.csv").exists()


def test_a_disk_that_refuses_keeps_the_ratings_before(labeled, monkeypatch):
    import os

    client, folder, shown = labeled
    client.put(f"/page/photos/{shown[0]['id']}/rating", json={"rating": 4})
    before = (folder / "grepq-labels.csv").read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    answer = client.put(f"/page/photos/{shown[1]['id']}/rating", json={"rating": 2})
    assert answer.status_code == 400 and "No space left" in answer.json()["error"]
    assert (folder / "grepq-labels.csv").read_text() == before
    monkeypatch.undo()
    assert client.get("/page/photos").json()["photos"][1]["rating"] is None


def test_bad_ratings_are_refused(labeled):
    client, _, shown = labeled
    for bad in (0, 6, "x", "NaN"):
        assert client.put(f"/page/photos/{shown[0]['id']}/rating", json={"rating": bad}).status_code in (400, 422)
    assert client.put("/page/photos/77/rating", json={"rating": 3}).status_code == 404
    assert client.put(f"/page/photos/{shown[0]['id']}/rating", content=bytes(5000)).status_code == 413


def test_dropped_photographs_are_ours_only_for_a_while(serve, photos, tmp_path):
    client = serve(max_stored=300_000)
    page = client.app.state.service.photos
    first = client.post("/page/photos?name=a.jpg", content=photos[1].read_bytes()).json()
    assert client.post("/page/photos?name=b.jpg", content=photos[1].read_bytes()).json()["id"] == first["id"]
    view = client.get(f"/page/photos/{first['id']}/view")
    assert view.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(view.content)).size == (768, 432)
    assert view.content != photos[1].read_bytes()  # never the client's bytes
    assert client.post("/page/photos?name=c.bin", content=bytes(290_000)).status_code == 507
    assert client.delete("/page/photos").status_code == 200 and client.get("/page/photos").json()["photos"] == []
    folder = page._temporary
    page.close()
    assert not folder.exists()
