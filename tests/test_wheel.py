"""The wheel, built and used outside the tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, capture_output=True, cwd=out)
    return next(out.glob("*.whl"))


def test_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "isosphere/py.typed" in names
    assert "isosphere/cli/__init__.py" in names
    presets = (REPOSITORY / "src" / "isosphere" / "training" / "presets").glob("*.yaml")
    assert {f"isosphere/training/presets/{file.name}" for file in presets} <= set(names)
    page = ("index.html", "app.js", "app.css", "LICENSES.txt")
    assert {f"isosphere/explore/static/{name}" for name in page} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


def test_command_runs_from_the_wheel_outside_the_tree(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import isosphere.cli as c; print(c.__file__); c.main()"
    env = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", code, "list", "methods"], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(site))
    assert "sphere-jepa" in run.stdout
    run = subprocess.run(
        [sys.executable, "-c", code, "list", "presets"], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert "imagenet1k-sphere-jepa\t" in run.stdout
