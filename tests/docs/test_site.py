"""The documentation site is built without a warning; its links lead somewhere, and nothing is loaded from a network."""

import importlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .conftest import ROOT

pytestmark = [pytest.mark.xdist_group("site"), pytest.mark.timeout(600)]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Targets of a page's links, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "index", "search"):
            self.loaded.append(given.get("href", ""))


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_links_lead_to_pages_and_places(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            there = target.exists() and target.is_relative_to(site)
            if not there or (parts.fragment and unquote(parts.fragment) not in pages[target].places):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_a_network(site, pages):
    asked = [what for page in pages.values() for what in page.loaded]
    sheets = [*site.rglob("*.css")]
    for sheet in sheets:
        asked += re.findall(r"(?:@import|url\()\s*[\"']?([^\"')\s]+)", sheet.read_text())
    assert [what for what in asked if what.startswith(("http:", "https:", "//"))] == []
    assert sheets
    assert any("katex.min.js" in what for what in asked)


def test_every_public_name_has_its_entry(site):
    inventory = pytest.importorskip("sphinx.util.inventory")
    with (site / "objects.inv").open("rb") as file:
        found = inventory.InventoryFile.load(file, "", lambda base, place: place)
    entries = {name for kind, names in found.items() if kind.startswith("py:") for name in names}
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        names = importlib.import_module("public_names")
    finally:
        sys.path.pop(0)
    wanted = {f"{package}.{name}" for package, name, _ in names.public_names()}
    assert len(wanted) > 500
    assert wanted - entries == set()


def test_every_command_has_its_section(pages, site):
    typer = pytest.importorskip("typer.main")
    from isosphere.cli import app

    names = {
        f"isosphere-{name}" for name, found in typer.get_command(app).commands.items() if not found.hidden
    }
    assert {"isosphere-train", "isosphere-explore"} <= names
    assert names <= pages[site / "commands.html"].places


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="formulas are looked at in a Chromium, and there is none")
@pytest.mark.parametrize(
    "name", ["theory", "discrepancies", "methods", "api/discrepancies", "api/methods", "api/sphere"]
)
def test_formulas_are_drawn(site, name):
    asked = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=20000",
        "--dump-dom",
    ]
    page = site / f"{name}.html"
    drawn = subprocess.run([*asked, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    formulas = page.read_text().count('class="formula"')
    assert formulas > 0
    assert drawn.count('class="katex"') == formulas
    assert "katex-error" not in drawn
