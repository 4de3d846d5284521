"""``isosphere explore`` as it is typed; the page itself is tested in tests/explore."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from isosphere.explore import _server as server

KEPT = Path(__file__).resolve().parent.parent / "kept_run"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A copy of the run, in which caches may be left."""
    return shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "run")


def test_a_page_is_written_as_files(run, classes, kept):
    done = run("explore", kept, classes, "--export", "page", "--map", "pca", "--no-cache")
    assert (done.code, done.err) == (0, "")
    assert "page/index.html" in done.out
    assert Path("page/index.html").exists()
    assert len(list(Path("page/thumbs").iterdir())) == 60
    again = run("explore", kept, classes, "--export", "page")
    assert (again.code, "not empty" in again.err) == (2, True)


def test_what_is_wrong_is_said(run, classes, kept, monkeypatch):
    assert "layer" in run("explore", kept, classes, "--layer", "x", "--export", "p").err
    assert "expected pca or umap" in run("explore", kept, classes, "--map", "x", "--export", "p").err
    swapped = run("explore", classes, kept, "--export", "p")
    assert (swapped.code, "the run comes first" in swapped.err) == (2, True)
    shutil.copytree(kept, "moved")
    config = Path("moved/config.yaml")
    config.write_text(re.sub(r"source: .*", "source: gone/pictures", config.read_text(), count=1))
    unnamed = run("explore", "moved", "--export", "p")
    assert (
        unnamed.code,
        "moved was made from are not where they were: name some" in " ".join(unnamed.err.split()),
    ) == (2, True)
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    missing = run("explore", kept, classes)
    assert (missing.code, "pip install starlette uvicorn" in " ".join(missing.err.split())) == (2, True)
    assert not Path("p").exists()


def test_a_file_for_embedding_atlas(run, classes, kept):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    done = run("embed", kept, classes, "--atlas", "--out", "x.parquet", "--no-cache")
    assert (done.code, done.err) == (0, "")
    assert "embedding-atlas x.parquet --x x --y y --neighbors neighbors --image image" in " ".join(
        done.out.split()
    )
    assert pq.read_table("x.parquet").num_rows == 60
    assert run("embed", kept, classes, "--atlas", "--out", "x.npz").code == 2
    again = run("embed", kept, classes, "--atlas", "--out", "x.parquet")
    assert (again.code, "--overwrite" in again.err) == (2, True)


@pytest.mark.skipif(os.name != "posix", reason="a process is stopped by a signal of POSIX")
def test_it_is_served_until_it_is_stopped(tmp_path, classes, kept):
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    words = ["explore", str(kept), str(classes), "--map", "pca", "--no-cache"]
    process = subprocess.Popen(
        [sys.executable, "-m", "isosphere", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        lines = iter(process.stdout)
        address = next(line for line in lines if "http" in line).split()[-1]
        with urllib.request.urlopen(address + "data/meta.json", timeout=20) as answer:
            assert json.load(answer)["count"] == 60
        with urllib.request.urlopen(address + "data/neighbours/backbone/3.json", timeout=20) as answer:
            assert len(json.load(answer)["rows"]) == 24
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "Stopped." in out
