"""The report as a file: complete, escaped, nothing fetched; and as Chromium shows it."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from isosphere.errors import UsageError
from isosphere.evaluation import Estimate
from isosphere.evaluation._results import Figure, TaskResult, read_results, update_results
from isosphere.report import (
    Card,
    Embedded,
    Group,
    Subject,
    evaluation_tables,
    gallery_page,
    report_page,
    thumbnail,
)
from isosphere.report._collapse import collapse_tiles, collapse_words
from isosphere.runs import RunFolder
from isosphere.workflows import TASKS

LAYOUTS = {name: task.layouts for name, task in TASKS.items()}

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

NASTY = "<script>alert('1')</script> & \"x\".png"


def evaluation(shift=0.0):
    def figure(model, layer, metric, value, half=0.02, **fields):
        return Figure(model, layer, metric, Estimate(value, value - half, value + half), **fields)

    accuracy = figure("trained", "backbone", "accuracy", 0.61 + shift), figure("pixels", "", "accuracy", 0.3)
    geometry = (
        figure("trained", "head", "effective_rank", 80.25),
        figure("untrained", "head", "effective_rank", math.nan),
        figure("trained", "head", "zscore", 12345.0, 10, variant="mmd-heat"),
    )
    return [
        TaskResult("knn", accuracy, {"k": 20, "test_images": 1234}, NASTY),
        TaskResult("geometry", geometry, {}),
    ]


def page_of(subjects, path) -> "Page":
    tables = evaluation_tables({s.name: read_results(s.folder) for s in subjects}, LAYOUTS)
    return Page(report_page(subjects, path, tables=tables))


def subject(path: Path, name: str, *, embedded=True, shift=0.0, alarms=()) -> Subject:
    folder = RunFolder(path / re.sub(r"\W", "_", name))
    folder.path.mkdir()
    folder.write_config(
        {
            "data": {"source": NASTY, "image_size": 16},
            "model": {"encoder": "small-conv", "init": "random", "dim": 8},
            "method": {"name": "mmd-heat", "weight": 0.9},
            "train": {"batch_size": 8, "seed": 0},
        }
    )
    folder.write_environment()
    metrics = folder.open_metrics()
    for step in range(1, 30):
        losses = {"total": 1 / step + shift, "invariance": 0.5, "alignment": 0.4, "cosine": float("nan")}
        metrics.append({"epoch": step // 4, "step": step, **losses, "learning_rate": 0.1, "seconds": step})
    update_results(folder, evaluation(shift))
    if not embedded:
        return Subject(name, folder, None, alarms)
    generator = torch.Generator().manual_seed(int(shift * 10))
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
    head = functional.normalize(torch.randn(40, 8, generator=generator), dim=1)
    labels = np.arange(40) % 3
    names = [NASTY if i == 0 else f"{i}.png" for i in range(40)]
    backbone = torch.rand(40, 12, generator=generator)
    shown = Embedded(lambda rows: images[list(rows)], labels, names, ["a", "<b>", "c"], head, backbone)
    return Subject(name, folder, shown, alarms)


class Page(HTMLParser):
    """What matters of a page: ids, links, sources, tags, texts, and that tags are closed in order."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.tags, self.alts, self.words = [], [], [], [], []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "link", "!doctype"):
            self.open.append(tag)
        for key, value in attrs:
            self.ids += [value] if key == "id" else []
            self.links += [value] if key in ("src", "href", "xlink:href", "action", "data", "srcset") else []
            self.alts += [value] if key == "alt" else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    made = subject(folder, NASTY, alarms=["Collapse: <all> is one"])
    tables = evaluation_tables({NASTY: read_results(made.folder)}, LAYOUTS)
    return report_page([made], folder / "out" / "r.html", tables=tables)


def test_a_page_is_complete_in_itself(single):
    page = Page(single)
    assert page.tags.count("html") == 1
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "url(http" not in page.text
    assert "default-src 'none'" in page.text
    assert 'name="viewport"' in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert "@media print" in page.text
    assert not list(single.parent.glob(".*"))


def test_names_are_shown_as_they_are_and_never_run(single):
    page = Page(single)
    assert NASTY in page.alts
    assert NASTY in page.said
    assert "<script>alert" not in page.text
    assert "<b>" not in re.findall(r"<span class=\"class\">(.*?)</span>", page.text)
    assert "Collapse: <all> is one" in page.said


def test_everything_is_in_it(single):
    page = Page(single)
    assert {"figures", "sphere", "neighbours", "map", "curves", "run"} <= set(page.ids)
    for words in (
        "61.0 [59.0, 63.0]",
        "trained encoder",
        "k: 20",
        "test images: 1,234",
        "effective rank",
        "12,345 [12,335, 12,355]",
        "mean cosine of different images",
        "loss",
        "weight 0.9",
        "encoder: small-conv",
        "29 steps",
    ):
        assert words in page.said, words
    assert page.tags.count("svg") == 2 + 2 + 4  # spectrum, cosines, two maps, four curves with two numbers
    assert page.tags.count("img") == 3 * 9 + 1  # a row a class, and the map of thumbnails


def test_several_runs_side_by_side(tmp_path):
    subjects = [
        subject(tmp_path, "first"),
        subject(tmp_path, "second", shift=0.1),
        subject(tmp_path, "bare", embedded=False),
    ]
    page = page_of(subjects, tmp_path / "r.html")
    for name in ("first", "second", "bare"):
        assert page.said.count(name) >= 4
    row = re.search(r"<th scope=\"row\">trained encoder</th>(.*?)</tr>", page.text, re.S)
    assert row is not None
    cells = re.findall(r"<td class=\"number\">(<b>)?([\d.]+)", row[1])
    assert cells == [("", "61.0"), ("<b>", "71.0"), ("", "61.0")]
    assert len(page.ids) == len(set(page.ids))


def test_a_run_without_figures_or_pictures(tmp_path):
    made = subject(tmp_path, "bare", embedded=False)
    made.folder.evaluation.unlink()
    made.folder.metrics.unlink()
    page = page_of([made], tmp_path / "r.html")
    assert page.ids == ["run"]
    assert "not at all: the encoder as it was initialised" in page.said


def test_only_the_images_that_are_shown_are_read(tmp_path):
    n, asked = 3000, []

    def images(rows):
        asked.extend(rows)
        return torch.zeros(len(rows), 3, 8, 8, dtype=torch.uint8)

    made = subject(tmp_path, "large", embedded=False)
    labels, features = np.full(n, -1), torch.randn(n, 6)
    shown = Embedded(images, labels, [f"{i}.png" for i in range(n)], [], features, features)
    page = Page(report_page([Subject("large", made.folder, shown)], tmp_path / "r.html"))
    assert page.tags.count("img") == 8 * 9 + 1
    assert 8 * 9 / 2 < len(set(asked)) <= len(asked) < 8 * 9 + 22 * 22 < n


def test_tiles_tell_collapse_from_spread():
    spread, collapsed = (
        collapse_tiles(z, [])[0] for z in (torch.randn(200, 16), 1 + 0.01 * torch.randn(200, 16))
    )
    assert (spread["state"], collapsed["state"]) == ("fine", "bad")
    assert float(collapsed["value"]) > 0.99
    close = collapse_tiles(torch.ones(200, 16), [{"alignment": "0.01"}])[-1]
    assert close["state"] == "bad"
    assert close["words"].startswith("closeness of two views")
    assert "alignment" not in close["words"]
    words = {tile["words"].split(";")[0]: tile["words"] for tile in collapse_tiles(torch.randn(3000, 8), [])}
    # -2t + log 0F1(; d/2; t^2) at t = 2, d = 8: 0F1 = sum of t^(2k) / ((d/2)_k k!).
    series = sum(4.0**k / (math.factorial(k + 3) / 6 * math.factorial(k)) for k in range(40))
    assert words["uniformity (0: collapsed)"].endswith(f"uniform points: {-4 + math.log(series):.2f}")
    assert "zero" in collapse_tiles(torch.zeros(30, 4), [])[-1]["words"]
    assert collapse_tiles(torch.randn(5, 4), []) == []


def test_collapse_in_words():
    assert "mean cosine 1.000" in collapse_words(torch.ones(40, 8))
    assert collapse_words(torch.randn(200, 16)) == ""
    assert collapse_words(torch.ones(5, 8)) == ""


def test_each_run_has_its_legend_and_count_where_images_differ(tmp_path):
    first, second = subject(tmp_path, "first"), subject(tmp_path, "second")
    page = page_of([first, second], tmp_path / "same.html")
    assert page.text.count('class="legend"') == 2  # of the classes, and of the runs' curves
    assert "among 40 images" in page.said
    assert second.embedded is not None
    some = {name: getattr(second.embedded, name)[:30] for name in ("labels", "paths", "head", "backbone")}
    shown = Embedded(second.embedded.images, class_names=["x", "y", "z"], **some)
    other = Subject("second", second.folder, shown)
    page = page_of([first, other], tmp_path / "r.html")
    assert page.text.count('class="legend"') == 3
    assert "among 40, 30 images" in page.said
    assert "The same queries" not in page.said


def test_gallery_page(tmp_path):
    card = Card(thumbnail(torch.zeros(3, 8, 8, dtype=torch.uint8)), NASTY, "cosine 1", marked=True)
    page = Page(
        gallery_page(tmp_path / "g.html", "Found", [Group("<one>", [card, card], NASTY)], summary="<s>")
    )
    assert page.alts == [NASTY, NASTY]
    assert "<one>" in page.said
    assert "<script>" not in page.text


def test_thumbnails_keep_small_pictures_and_shrink_large_ones():
    import base64
    import io

    small = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    for image, side, expected in ((small, 96, (20, 20)), (Image.new("RGB", (400, 200)), 96, (96, 48))):
        kind, _, body = thumbnail(image, side).partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(body))) as opened:
            assert opened.size == expected
            assert kind == f"data:image/{(opened.format or '').lower()}"
            if image is small:
                assert np.array_equal(np.asarray(opened), small.permute(1, 2, 0).numpy())


def test_without_jinja_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match="pip install jinja2"):
        gallery_page(tmp_path / "g.html", "Found", [])


def test_damaged_environment_is_passed_over(tmp_path):
    made = subject(tmp_path, "odd", embedded=False)
    made.folder.environment.write_text(json.dumps([]))
    assert page_of([made], tmp_path / "r.html").ids


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("dark", [False, True])
def test_chromium_shows_it(single, tmp_path, dark):
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shot = tmp_path / "shot.png"
    command = [CHROMIUM, *flags, "--window-size=500,1600", f"--screenshot={shot}", single.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr  # nothing was refused, nothing failed
    with Image.open(shot) as opened:
        pixels = np.asarray(opened.convert("L"))
    assert pixels.shape == (1600, 500)
    ground = np.median(pixels)
    assert ground < 60 if dark else ground > 240
    assert pixels.std() > 10
