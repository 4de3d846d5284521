"""The sdist and the wheel that is built from it, installed and used outside the tree."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build("--sdist", REPOSITORY, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """Built from the sdist, as an index would have it built."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return build("--wheel", tree, tmp_path_factory.mktemp("wheel"))


def build(kind: str, tree: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", str(out), str(tree)]
    subprocess.run(command, check=True, capture_output=True, cwd=out)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel installed by pip; its dependencies are those of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-index",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # After what is installed here; files of paths within it, as of an editable install, are not read.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def typed(environment: Path, folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [environment / words[0], *words[1:]], capture_output=True, text=True, env=clean, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sdist_holds_what_it_is_built_and_tested_from(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md"} <= names
    assert {
        "docs/conf.py",
        "examples/textures.ipynb",
        "tests/test_wheel.py",
        "web/package-lock.json",
    } <= names
    assert not [name for name in names if name.startswith(("docs/_build", "web/node_modules", ".git/"))]


def test_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "isosphere/py.typed" in names
    assert "isosphere/cli/__init__.py" in names
    presets = (REPOSITORY / "src" / "isosphere" / "training" / "presets").glob("*.yaml")
    assert {f"isosphere/training/presets/{file.name}" for file in presets} <= set(names)
    page = ("index.html", "app.js", "app.css", "LICENSES.txt")
    assert {f"isosphere/explore/static/{name}" for name in page} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {"isosphere", f"isosphere-{VERSION}.dist-info"}


def test_the_installed_command_runs_outside_the_tree(environment, tmp_path):
    where = "import isosphere; print(isosphere.__version__, isosphere.__file__)"
    version, file = typed(environment, tmp_path, "python", "-c", where).split()
    assert version == VERSION
    assert Path(file).is_relative_to(environment.parent)
    methods = typed(environment, tmp_path, "isosphere", "list", "methods")
    assert "sphere-jepa" in methods
    assert "imagenet1k-sphere-jepa\t" in typed(environment, tmp_path, "isosphere", "list", "presets")


@pytest.mark.slow
def test_the_installed_command_trains_and_judges(environment, tmp_path):
    typed(environment, tmp_path, "isosphere", "train", "digits", "--out", "run", "--epochs", "1")
    typed(environment, tmp_path, "isosphere", "evaluate", "run", "digits", "--tasks", "knn")
    assert (tmp_path / "run" / "evaluation.json").exists()
    typed(
        environment,
        tmp_path,
        "isosphere",
        "export",
        "run",
        "--format",
        "safetensors",
        "--out",
        "e.safetensors",
    )


def test_the_version_is_one_everywhere():
    """That of the newest section of the changelog which is cut, of the citation, and of the package."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    sections = [line for line in changelog.splitlines() if line.startswith("## [")]
    released = next(line for line in sections if "Unreleased" not in line)
    assert released == f"## [{VERSION}] - 2026-11-30"
    citation = (REPOSITORY / "CITATION.cff").read_text().splitlines()
    assert f"version: {VERSION}" in citation
    assert "date-released: 2026-11-30" in citation
