"""The site, built once as `make docs` builds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx", reason="the site is built by Sphinx: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    makefile = (ROOT / "Makefile").read_text()
    strict = makefile.partition("sphinx-build ")[2].partition(" docs ")[0].split()
    assert strict == ["-W", "--keep-going", "-n", "-q", "-b", "html"]
    build = [sys.executable, "-m", "sphinx", *strict, "-d", str(out / "doctrees"), "docs", str(out / "html")]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"
