"""Who is answered, what is answered, and what is written."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.data import match_labels, read_label_file
from isosphere.errors import RunError, UsageError
from isosphere.explore import Annotations, build_app, export_page
from isosphere.explore import _server as server
from isosphere.explore._guard import MOST_BYTES
from tests.explore.pages import EVIL, collection, page, pictures

testclient = pytest.importorskip("starlette.testclient", reason="starlette is not installed")
TOKEN = "secret"


@pytest.fixture
def made():
    found = collection(60)
    found.source.paths[0] = EVIL
    return found


@pytest.fixture
def client(made, tmp_path):
    app = build_app(page(made, tmp_path), token=TOKEN, port=lambda: 8000)
    return testclient.TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def at(path: str) -> str:
    return f"/{TOKEN}/{path}"


# --- who is answered ------------------------------------------------------------------------------------------------


def test_the_page_and_its_files(client):
    for name, kind in (("", "text/html"), ("app.js", "text/javascript"), ("app.css", "text/css")):
        found = client.get(at(name))
        assert found.status_code == 200
        assert found.headers["content-type"].startswith(kind)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy


def test_without_the_slash_the_page_is_found(client):
    found = client.get(f"/{TOKEN}", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (307, f"/{TOKEN}/")


@pytest.mark.parametrize(
    "path", ["/", "/secre/", "/secrets/", "/Secret/", "//secret/", "/x/secret/", "/%73ecre/"]
)
def test_without_the_token_nothing_is_answered(client, path):
    found = client.get(path, follow_redirects=False)
    assert (found.status_code, found.content) == (404, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1:8001"},
        {"host": "127.0.0.1"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "https://127.0.0.1:8000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_hosts_and_origins_are_refused(client, headers):
    assert client.get(at("data/meta.json"), headers=headers).status_code == 403
    found = client.post(at("annotations/labels"), headers=headers, json={"rows": [0], "label": "x"})
    assert found.status_code == 403
    assert client.get(at("data/annotations.json")).json()["labels"] == {}


@pytest.mark.parametrize(
    "headers", [{"host": "localhost:8000"}, {"origin": "http://localhost:8000"}, {"sec-fetch-site": "none"}]
)
def test_this_machine_is_answered(client, headers):
    assert client.get(at("data/meta.json"), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../app.js",
        "..%2f..%2fpyproject.toml",
        "%2e%2e/%2e%2e/etc/passwd",
        "static/app.js",
        "index.html",
        "data/..%2f..%2fmeta.json",
        "data/../meta.json",
        "thumbs/../0.webp",
        "thumbs/-1.webp",
        "thumbs/60.webp",
        "images/1e1.webp",
        "other/1.webp/x",
        "_server.py",
    ],
)
def test_paths_lead_nowhere_else(client, path):
    assert client.get(f"http://127.0.0.1:8000/{TOKEN}/{path}").status_code in (404, 405)


def test_large_requests_are_refused(client, monkeypatch):
    found = client.post(at("search"), content=b"x", headers={"content-length": str(MOST_BYTES + 1)})
    assert found.status_code == 413
    assert client.post(at("search"), content=b"x", headers={"content-length": "-5"}).status_code == 413
    monkeypatch.setattr(server, "MOST_BYTES", 10)
    assert (
        client.post(at("search"), content=iter([b"12345", b"678901"])).status_code == 413
    )  # of unknown length


# --- what is answered -----------------------------------------------------------------------------------------------


def test_names_are_data(client):
    assert client.get(at("data/names.json")).json()[0] == EVIL
    assert EVIL not in client.get(at("")).text


def test_errors_are_sentences(client):
    found = client.get(at("data/duplicates.json?threshold=7"))
    assert (found.status_code, "expected a cosine" in found.json()["error"]) == (400, True)
    assert client.get(at("data/nothing.json")).status_code == 404


def test_numbers_of_the_page_are_json(client):
    for name in ("meta", "map", "names", "files", "outliers", "typical", "diverse", "clusters", "duplicates"):
        found = client.get(at(f"data/{name}.json"))
        assert found.status_code == 200, name
        json.loads(found.text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_dropped_picture_finds_itself(client):
    stream = io.BytesIO()
    Image.fromarray(pictures(60)[13]).save(stream, "PNG")
    found = client.post(at("search?layer=second"), content=stream.getvalue()).json()
    assert found["rows"][0] == 13
    assert found["cosines"][0] == pytest.approx(1)
    assert client.post(at("search?layer=x"), content=stream.getvalue()).status_code == 404


def test_thumbnails_are_pictures(client):
    found = client.get(at("thumbs/7.webp"))
    assert found.headers["content-type"] == "image/webp"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.content))), pictures(60)[7])


# --- what is written ------------------------------------------------------------------------------------------------


def test_labels_follow_the_content(client, made, tmp_path):
    answer = client.post(at("annotations/labels"), json={"rows": [3, 5], "label": " oak  wood "}).json()
    assert answer["labels"] == {"3": "oak wood", "5": "oak wood"}
    client.post(at("annotations/labels"), json={"rows": [5], "label": "pine"})
    client.post(at("annotations/labels"), json={"rows": [3], "label": None})
    assert client.get(at("data/annotations.json")).json()["labels"] == {"5": "pine"}
    moved = collection(60, names=[f"elsewhere/{i}.png" for i in range(60)])
    assert Annotations(moved, tmp_path).read()["labels"] == {5: "pine"}
    others = collection(4)  # none of whose images is labelled: the labels of others stay
    Annotations(others, tmp_path).label([1], "ash")
    assert Annotations(moved, tmp_path).read()["labels"] == {1: "ash", 5: "pine"}


def test_a_diverse_subset_stays_away_from_labelled_images(client, made):
    every = [row for row in range(60) if made.source.labels[row] != 2]
    client.post(at("annotations/labels"), json={"rows": every, "label": "done"})
    found = client.get(at("data/diverse.json?k=12&apart=1")).json()
    assert sorted(found["rows"]) == [row for row in range(60) if made.source.labels[row] == 2]
    assert client.get(at("data/diverse.json?k=13&apart=1")).status_code == 400
    assert client.get(at("data/diverse.json?k=13")).status_code == 200


def test_copies_share_a_label(made, tmp_path):
    made.source._images = None  # not read again
    made.once.get("digests", lambda: np.array([[1, 2]] * 2 + [[3, i] for i in range(58)], np.int64))
    notes = Annotations(made, tmp_path)
    notes.label([0], "twin")
    assert notes.read()["labels"] == {0: "twin", 1: "twin"}


def test_images_without_bytes_are_known_by_their_names(made, tmp_path):
    made.once.get("digests", lambda: np.zeros((60, 2), np.int64))
    made.source.paths[4] = "caf\udce9.png"
    notes = Annotations(made, tmp_path)
    notes.label([3], "a")
    notes.label([4, 5], "b")
    notes.hide([6], hidden=True)
    found = notes.read()
    assert found["labels"][3] == "a"
    assert found["labels"][5] == "b"
    assert found["hidden"] == [6]
    notes.label([5], None)
    assert notes.read()["labels"][3] == "a"


def test_a_label_given_on_the_page_replaces_what_was_written_by_hand(client, made, tmp_path):
    made.source.paths[5], made.source.paths[6] = "a/cr\r.png", "a/byte\udcff.png"
    file = tmp_path / "labels.csv"
    file.write_text("path,label,Patient\na/003.png,oak,p1\n004.png,oak,p2\na/003.png,ash,p3\n")
    post = partial(client.post, at("annotations/labels"))
    assert client.get(at("data/annotations.json")).json()["labels"] == {"4": "oak"}  # 3 contradicts itself
    assert post(json={"rows": [3, 4, 5, 6], "label": "pine"}).json()["labels"] == dict.fromkeys(
        "3456", "pine"
    )
    assert post(json={"rows": [4], "label": None}).json()["labels"] == dict.fromkeys("356", "pine")
    rows = read_label_file(file)
    assert [(row.path, row.label, row.cells["patient"]) for row in rows] == [
        ("a/003.png", "pine", "p1"),
        ("004.png", "", "p2"),  # its other columns stay
        ("a/003.png", "pine", "p3"),
        ("a/cr\r.png", "pine", ""),
        ("a/byte\udcff.png", "pine", ""),
    ]
    assert match_labels(made.source, rows, known=made.digests).count == 3
    assert client.get(at("data/names.json")).json()[6] == r"a/byte\udcff.png"


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("labels", {"rows": [1], "label": "half \ud800"}),
        ("clusters", {"rows": [1], "label": "half \ud800"}),
        ("hidden", {"rows": [1], "hidden": "false"}),
    ],
)
def test_what_no_file_can_hold_is_refused_before_it_is_written(client, tmp_path, what, given):
    body = json.dumps(given)
    found = client.post(at(f"annotations/{what}"), content=body)
    assert found.status_code == 400
    assert client.get(at("data/annotations.json")).json() == {"labels": {}, "hidden": [], "clusters": {}}


def test_where_nothing_can_be_written_it_is_said(made, tmp_path, monkeypatch):
    notes = Annotations(made, tmp_path)
    assert (notes.unwritten, notes.ended) == ("", "Stopped. Every label was written when it was given.")
    notes.label([1], "a")
    monkeypatch.setattr(os, "access", lambda *_: False)
    client = testclient.TestClient(
        build_app(page(made, tmp_path), token=TOKEN, port=lambda: 8000), base_url="http://127.0.0.1:8000"
    )
    said = f"{tmp_path} cannot be written to: labels cannot be kept."
    found = client.post(at("annotations/labels"), json={"rows": [2], "label": "x"})
    assert (found.status_code, found.json()) == (400, {"error": said})
    assert client.get(at("data/annotations.json")).json()["labels"] == {"1": "a"}
    assert client.get(at("data/meta.json")).json()["unwritten"] == said
    assert notes.ended == f"Stopped. {said}"
    with pytest.raises(UsageError, match="cannot be written to"):
        notes.hide([1], hidden=True)
    assert notes.ended == "Stopped. 1 change could not be written, as the page said."


def test_hidden_images_and_names_of_clusters(client, tmp_path):
    client.post(at("annotations/hidden"), json={"rows": [1, 2, 3], "hidden": True})
    client.post(at("annotations/hidden"), json={"rows": [2], "hidden": False})
    client.post(at("annotations/clusters"), json={"rows": [9], "label": "bricks"})
    found = client.get(at("data/annotations.json")).json()
    assert (found["hidden"], found["clusters"]) == ([1, 3], {"9": "bricks"})
    client.post(at("annotations/clusters"), json={"rows": [9], "label": None})
    assert client.get(at("data/annotations.json")).json()["clusters"] == {}


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("labels", {"rows": [60], "label": "x"}),
        ("labels", {"rows": [-1], "label": "x"}),
        ("labels", {"rows": ["1"], "label": "x"}),
        ("labels", {"rows": [True], "label": "x"}),
        ("labels", {"rows": [1], "label": "  "}),
        ("labels", {"rows": [1], "label": "x" * 201}),
        ("labels", {"rows": [1], "label": 7}),
        ("labels", {"label": "x"}),
        ("labels", [1]),
        ("clusters", {"rows": [1, 2], "label": "x"}),
        ("other", {"rows": [1], "label": "x"}),
    ],
)
def test_what_is_no_change_changes_nothing(client, tmp_path, what, given):
    assert client.post(at(f"annotations/{what}"), json=given).status_code == 400
    assert client.post(at(f"annotations/{what}"), content=b"{").status_code == 400
    assert [p for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_a_damaged_file_is_named_and_kept(client, tmp_path):
    (tmp_path / "labels.csv").write_text("something else\n1\n")
    found = client.post(at("annotations/labels"), json={"rows": [1], "label": "x"})
    assert found.status_code == 400
    assert "labels.csv" in found.json()["error"]
    assert (tmp_path / "labels.csv").read_text() == "something else\n1\n"
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "explore.json").write_text("[]")
    assert client.post(at("annotations/hidden"), json={"rows": [1], "hidden": True}).status_code == 500
    assert (tmp_path / "explore.json").read_text() == "[]"


def test_many_hands_lose_nothing(made, tmp_path):
    first, second = Annotations(made, tmp_path), Annotations(collection(60), tmp_path)
    faults = []

    def work(notes, rows):
        try:
            for row in rows:
                notes.label([row], f"label {row}")
        except RunError as error:
            faults.append(error)

    threads = [
        threading.Thread(target=work, args=(notes, range(start, 60, 4)))
        for start, notes in enumerate((first, second) * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert first.read()["labels"] == {row: f"label {row}" for row in range(60)}


def served(folder: Path, *more: str) -> tuple[subprocess.Popen, str]:
    """A server in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.explore.pages", str(folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def post(address: str, path: str, given: object) -> None:
    request = urllib.request.Request(
        address + path, json.dumps(given).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


@pytest.mark.skipif(os.name != "posix", reason="a process is killed by a signal of POSIX")
def test_a_killed_server_leaves_nothing_half_written(tmp_path):
    process, address = served(tmp_path)
    done: list[int] = []

    def label() -> None:
        for row in range(60):
            try:
                post(address, "annotations/labels", {"rows": [row], "label": "x" * 150 + str(row)})
            except OSError:
                return
            done.append(row)
            if row == 20:
                process.send_signal(signal.SIGKILL)

    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        label()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    labels = Annotations(collection(60), tmp_path).read()["labels"]
    assert set(done) <= labels.keys()  # what was answered is on the disk
    assert all(name == "x" * 150 + str(row) for row, name in labels.items())
    Annotations(collection(60), tmp_path).label([59], "after")  # the lock of the dead is nobody's


def test_a_port_that_is_taken_is_named(made, tmp_path):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port.*{port}"):
            server.serve(page(made, tmp_path), port=port)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"starlette and uvicorn, which are not.*pip install starlette uvicorn"
    ):
        server.require_packages()


# --- as files -------------------------------------------------------------------------------------------------------


def given(folder: Path, name: str) -> object:
    """The value that a script of the page gives."""
    text = (folder / "data" / f"{name}.js").read_text("ascii")
    found = re.fullmatch(r'\(window\.isosphere \?\?= \{\}\)\["[\w/]+"\] = (.*);\n', text)
    assert found, text[:200]
    return json.loads(found[1])


def test_a_page_as_files(made, tmp_path):
    whole = page(made, tmp_path / "run")
    whole.annotations.label([2], "oak")
    index = export_page(whole, tmp_path / "out" / "page")
    folder = index.parent
    assert given(folder, "meta")["static"] is True
    assert given(folder, "names") == made.source.paths
    assert given(folder, "annotations") == {"labels": {"2": "oak"}, "hidden": [], "clusters": {}}
    for layer in ("first", "second"):
        block = given(folder, f"neighbours-{layer}-0")
        for row in (0, 31):
            live = whole.resources.get(f"neighbours/{layer}/{row}")
            assert block[row]["rows"] == live["rows"]
            np.testing.assert_allclose(block[row]["cosines"], live["cosines"], atol=2e-5)
    assert len(list((folder / "thumbs").iterdir())) == 60
    assert (folder / "app.js").read_bytes() == (server.STATIC / "app.js").read_bytes()
    assert str(tmp_path) not in "".join(p.read_text("utf-8") for p in folder.rglob("*.js"))
    with pytest.raises(UsageError, match="not empty"):
        export_page(whole, folder)


def test_a_page_that_fails_leaves_nothing(made, tmp_path, monkeypatch):
    whole = page(made, tmp_path / "run")

    def fails(row):
        raise OSError("disk full")

    monkeypatch.setattr(whole.pictures, "thumbnail", fails)
    with pytest.raises(OSError, match="disk full"):
        export_page(whole, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


# --- what is shipped ------------------------------------------------------------------------------------------------

WEB = Path(__file__).resolve().parents[2] / "web"


@pytest.mark.skipif(not WEB.exists(), reason="the sources of the page are not here")
def test_the_page_is_that_of_its_sources():
    for name in ("index.html", "app.css", "LICENSES.txt"):
        assert (server.STATIC / name).read_bytes() == (WEB / "src" / name).read_bytes(), (
            "cd web; npm run build"
        )
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    wanted = json.loads((WEB / "package.json").read_text())
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert lock[f"node_modules/{name}"]["version"] == version
        assert lock[f"node_modules/{name}"]["integrity"].startswith("sha512-")


def test_the_page_loads_nothing_from_a_network():
    for name in ("index.html", "app.css"):
        assert "//" not in (server.STATIC / name).read_text()
    loads = re.findall(
        r"""(?:fetch|import|Worker|src=|href=)[("'`]+(?:https?:)?//[^"'`]*""",
        (server.STATIC / "app.js").read_text(),
    )
    assert loads == []
