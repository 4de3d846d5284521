"""A service: what it answers, what it refuses, and that nobody makes it slow, large or silent."""

import io
import json
import os
import signal
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import numpy as np
import pytest
from PIL import Image

from isosphere.errors import UsageError
from tests.zoo import banded, png_chunk, tiff, zoo

from .service import DIM, NumpyBundle, ask, numpy_service

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")


def png(seed: int = 0, side: tuple[int, int] = (12, 8)) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*side[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def service():
    with numpy_service(most_bytes=1 << 20, most_pixels=1_000_000, upload=1.0, timeout=20.0) as (_, port):
        yield port


def test_it_answers_what_the_bundle_says(service):
    bundle, body = NumpyBundle(), png(3)
    found = ask(service, "/embed", body)
    assert found.status == 200
    assert np.allclose(found.json["vector"], bundle.embed([body])[0], atol=1e-6)
    assert (found.json["network"], found.json["layer"], found.json["dim"]) == ("n1", "adapted", DIM)
    raw = ask(service, "/embed", body, Accept="application/octet-stream")
    assert np.allclose(np.frombuffer(raw.body, "<f4"), found.json["vector"], atol=1e-7)
    assert raw.headers["x-network"] == "n1"
    searched = ask(service, "/search?k=3", body).json["matches"]
    assert searched == bundle.search(body, 3)
    assert len(searched) == 3
    assert ask(service, "/classify", body).json["label"] == bundle.classify([body])[0]["label"]
    health = ask(service, "/health").json
    assert (health["status"], health["images"], health["version"]) == ("ok", 20, "v1")


def test_search_is_that_of_brute_force_with_the_earlier_of_equals_first():
    bundle = NumpyBundle(images=50)
    bundle.vectors[7] = bundle.vectors[33]
    cosines = bundle.vectors @ bundle.vectors[33]
    found = bundle.nearest(bundle.vectors[33:34], 4)[0]
    expected = np.lexsort((np.arange(50), -cosines))[:4]
    assert [match["path"] for match in found] == [f"{i}.png" for i in expected]
    assert [match["path"] for match in found][:2] == ["7.png", "33.png"]
    assert found[0]["copy"] is True
    assert found[3]["copy"] is False
    assert len(bundle.nearest(bundle.vectors[:1], 1000)[0]) == 50


def test_a_vector_is_searched_by_if_it_is_of_this_network(service):
    given = {"vector": NumpyBundle().vectors[4].tolist(), "network": "n1"}
    headers = {"content_type": "application/json"}
    found = ask(service, "/search?k=1", json.dumps(given), **headers)
    assert found.json["matches"][0]["path"] == "4.png"
    other = ask(service, "/search", json.dumps({**given, "network": "n2"}), **headers)
    assert other.status == 409
    assert "another network" in other.json["error"]
    for wrong in (
        "{",
        "[]",
        '{"vector": [1], "network": "n1"}',
        '{"vector": "a", "network": "n1"}',
        "[" * 9999,
    ):
        refused = ask(service, "/search", wrong, **headers)
        assert (refused.status, "expected" in refused.json["error"]) == (400, True), wrong


@pytest.mark.parametrize("name", sorted(zoo()))
def test_every_kind_of_picture_is_answered(service, name):
    animal = zoo()[name]
    found = ask(service, "/embed", animal.body)
    assert found.status == 200, found.body
    assert np.allclose(found.json["vector"], NumpyBundle().embed([animal.body])[0], atol=1e-6)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is large."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    )


HOSTILE = {
    "nothing": b"",
    "text": b"hello",
    "a page": b"<html><body>hello</body></html>",
    "a program": b"\x7fELF" + bytes(200),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "an archive": b"PK\x03\x04" + bytes(100),
    "a bomb": bomb(60_000, 60_000),
    "a long bomb": bomb(2**31 - 1, 1),
    "half a picture": png(1, (90, 90))[:200],
    "a picture that says nothing": png()[:8],
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("path", ["/embed", "/search", "/classify"])
def test_what_is_no_picture_is_an_error_in_words(service, name, path):
    found = ask(service, path, HOSTILE[name])
    assert found.status == 400, found.body
    assert "this is no picture that can be read" in found.json["error"]
    assert ask(service, "/health").status == 200


def test_damaged_pictures_never_end_it(service):
    """Bytes of the zoo with errors: an answer in JSON each, and a service that goes on."""
    rng = np.random.default_rng(0)
    for animal in list(zoo().values())[::2]:
        body = bytearray(animal.body)
        for place in rng.integers(0, len(body), 8):
            body[place] = rng.integers(0, 256)
        found = ask(service, "/embed", bytes(body))
        assert found.status in (200, 400, 422), found.body
        assert found.json
    assert ask(service, "/embed", png()).status == 200


def test_a_picture_of_which_there_is_no_vector_is_an_error(service):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")  # black: 0 / 0 in this network
    for path in ("/embed", "/search", "/classify"):
        found = ask(service, path, stream.getvalue())
        assert (found.status, "not finite" in found.json["error"]) == (422, True)


def test_a_picture_of_other_channels_spoils_no_batch():
    five = tiff(banded(5))
    with numpy_service(pause=0.3) as (_, port), ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda i: ask(port, "/embed", five if i % 2 else png()), range(8)))
    assert [each.status for each in found] == [200, 400] * 4
    assert any(
        word in found[1].json["error"] for word in ("it has 5 channels, and 3 are expected", "tifffile")
    )


def received(line: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    found = b""
    while part := line.recv(65536):
        found += part
    return found


def test_large_requests_are_refused_before_they_are_read(service):
    with socket.create_connection(("127.0.0.1", service), timeout=10) as line:
        line.sendall(b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2147483648\r\n\r\n")
        answer = received(line)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"larger than the 1 MiB that are taken" in answer
    with socket.create_connection(("127.0.0.1", service), timeout=10) as line:  # of unknown length
        line.sendall(b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        try:
            for _ in range(40):
                line.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            answer = received(line)
        except (ConnectionError, BrokenPipeError):
            answer = line.recv(65536)
    # What was on its way may have cut the answer off.
    assert answer.startswith(b"HTTP/1.1 413") or answer == b""
    assert ask(service, "/health").json["requests"] == 0


def test_a_request_that_does_not_come_is_not_waited_for(service):
    with socket.create_connection(("127.0.0.1", service), timeout=10) as line:
        line.sendall(b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nslow")
        begun = time.monotonic()
        answer = line.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "POST", 404),
        ("/embed", "GET", 405),
        ("/search?k=0", "POST", 400),
        ("/search?k=9999999999", "POST", 400),
        ("/search?k=many", "POST", 400),
    ],
)
def test_other_mistakes_are_told_in_json(service, path, method, status):
    found = ask(service, path, png(), method=method)
    assert (found.status, bool(found.json["error"])) == (status, True)


def test_only_programs_of_this_machine_are_answered(service):
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{service}"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert ask(service, "/health", **headers).status == 403, headers
    assert ask(service, "/health", Host=f"localhost:{service}").status == 200


def test_a_token_is_asked_for_but_of_health():
    with numpy_service(token="secret") as (_, port):
        assert ask(port, "/health").status == 200
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
            refused = ask(port, "/embed", png(), **headers)
            assert refused.status == 401
            assert "token" in refused.json["error"]
        assert ask(port, "/embed", png(), Authorization="Bearer secret").status == 200


def test_requests_at_once_are_batched_and_more_than_the_queue_are_told_to_come_again():
    with numpy_service(pause=0.4, queue=12, batch=8) as (_, port), ThreadPoolExecutor(24) as clients:
        expected = NumpyBundle().embed([png(9)])[0]
        begun = time.monotonic()
        found = list(clients.map(lambda i: ask(port, "/embed", png(9)), range(24)))
        took = time.monotonic() - begun
    statuses = [each.status for each in found]
    assert set(statuses) == {200, 503}
    assert 12 <= statuses.count(200) < 24
    # One by one, 12 answers would take 4.8 s.
    assert took < 4.0
    for each in found:
        if each.status == 200:
            assert np.allclose(each.json["vector"], expected, atol=1e-6)
        else:
            assert each.headers["retry-after"] == "1"
            assert "try again" in each.json["error"]


def test_what_takes_too_long_is_given_up_and_the_rest_goes_on():
    with numpy_service(pause=0.8, timeout=0.5, batch=1) as (_, port):
        late = ask(port, "/embed", png())
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        assert "within 0.5 seconds" in late.json["error"]
        assert ask(port, "/health").json["requests"] == 0


def test_it_is_killed_and_started_again_under_load():
    """Clients that ask on: each answer is whole, or the connection is refused or cut."""
    body, expected, ended = png(5), NumpyBundle().embed([png(5)])[0], threading.Event()
    answers, cut, place = [], [], {"port": 0}

    def client():
        while not ended.is_set():
            try:
                found = ask(place["port"], "/embed", body, timeout=5)
            except (OSError, HTTPException) as error:
                cut.append(type(error).__name__)
                time.sleep(0.05)
                continue
            answers.append(found.status)
            assert found.status in (200, 503)
            if found.status == 200:
                assert np.allclose(found.json["vector"], expected, atol=1e-6)

    with ThreadPoolExecutor(4) as clients:
        asking = []
        for signal_ in (signal.SIGKILL, signal.SIGTERM):
            with numpy_service(pause=0.01) as (process, place["port"]):
                asking = asking or [clients.submit(client) for _ in range(4)]
                before = len(answers)
                until = time.monotonic() + 20
                while len(answers) < before + 40 and time.monotonic() < until:
                    time.sleep(0.05)
                assert len(answers) >= before + 40
                process.send_signal(signal_)
                process.wait(30)
        ended.set()
        for each in asking:
            each.result()
    assert answers.count(200) >= 80


def test_sigterm_answers_what_has_come_first():
    with numpy_service(pause=0.6) as (process, port), ThreadPoolExecutor(1) as client:
        asked = client.submit(ask, port, "/embed", png())
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert asked.result().status == 200
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_it_listens_to_a_network_only_with_a_token():
    from isosphere.deploy import serve_bundle

    with pytest.raises(UsageError, match="give a token"):
        serve_bundle(NumpyBundle(), host="0.0.0.0", port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be had"):
            serve_bundle(NumpyBundle(), port=taken.getsockname()[1])


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    from isosphere.deploy import BundleError
    from isosphere.deploy._runtime import read_about

    with pytest.raises(BundleError, match=r"is no bundle, or was not written to its end"):
        read_about(tmp_path)
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        read_about(tmp_path)
    (tmp_path / "bundle.json").write_text('{"format": "other", "version": "", "files": {}}')
    with pytest.raises(BundleError, match="another format"):
        read_about(tmp_path)
    about = {"format": "isosphere-bundle-1", "version": "", "files": {"../x": {"bytes": 1, "sha256": ""}}}
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(BundleError, match="outside of the bundle"):
        read_about(tmp_path)


def memory(pid: int) -> float:
    """Resident MiB."""
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc")  # noqa: PTH110
def test_refused_requests_leave_nothing_behind():
    """Of 200 hostile and large requests the memory does not keep anything."""
    with numpy_service(most_bytes=1 << 20, most_pixels=1_000_000) as (process, port):
        for _ in range(2):
            for body in (*HOSTILE.values(), bytes(1 << 20), png(2, (600, 500))):
                ask(port, "/embed", body)
        before = memory(process.pid)
        for _ in range(16):
            for body in (*HOSTILE.values(), bytes(1 << 20), png(2, (600, 500))):
                ask(port, "/embed", body)
        assert memory(process.pid) - before < 20


def test_what_is_not_installed_is_said(monkeypatch, tmp_path):
    import importlib.util

    from isosphere.deploy import open_bundle, require_service

    found = importlib.util.find_spec
    import isosphere.deploy._serve as serving

    monkeypatch.setattr(serving, "find_spec", lambda name: None if name in gone else found(name))
    gone = ("onnxruntime", "uvicorn")
    with pytest.raises(UsageError, match=r"uvicorn, which is not installed.*pip install uvicorn"):
        require_service()
    with pytest.raises(UsageError, match=r"onnxruntime, which is not installed.*pip install onnxruntime"):
        open_bundle(tmp_path)


def test_a_form_is_told_what_to_send(service):
    found = ask(service, "/embed", b"--x\r\n\r\n", Content_Type="multipart/form-data; boundary=x")
    assert (found.status, "--data-binary @picture.jpg" in found.json["error"]) == (415, True)
