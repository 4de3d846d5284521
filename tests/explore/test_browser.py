"""The page in headless Chromium: clicks, lasso, a dropped picture, keys, a phone, darkness, no request off the machine.

Needs playwright (from PyPI) and a Chromium of the system's, at one of NAMES or where CHROMIUM says.
"""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.explore import export_page
from tests.explore.pages import EVIL, collection, page, pictures
from tests.explore.test_server import served

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: apt-get install chromium"),
]
DRAWN = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE = 60_000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=list(DRAWN))
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def address(folder):
    process, found = served(folder)
    yield found
    process.kill()
    process.wait()
    process.stdout.close()


class Tab:
    """A page that is watched: what it says on its console, and whom it asks."""

    def __init__(self, context, address: str) -> None:
        self.address, self.faults, self.strangers = address, [], []
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(address)
        self.page.wait_for_selector("body.ready")

    def _console(self, message) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _request(self, request) -> None:
        if not request.url.startswith((self.address.removesuffix("index.html"), "data:", "blob:")):
            self.strangers.append(request.url)

    def where(self, row: int) -> tuple[float, float]:
        """The place of a row on the screen."""
        box = self.page.locator("#map").bounding_box()
        place = self.page.evaluate("row => window.isospherePage.view.where(row)", row)
        return box["x"] + place["x"], box["y"] + place["y"]

    def state(self, name: str):
        return self.page.evaluate(f"() => window.isospherePage.state.{name}")

    def cards(self) -> list[int]:
        found = self.page.locator("#panel .card")
        found.first.wait_for()
        return [int(row) for row in found.evaluate_all("all => all.map(each => each.dataset.row)")]

    def open(self, tab: str) -> None:
        self.page.click(f"#tab-{tab}")


@pytest.fixture
def tab(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    found = Tab(context, address)
    yield found
    context.close()
    assert found.faults == []
    assert found.strangers == []


def apart(made) -> int:
    """A row whose point no other is near to, so that a click there is a click on it."""
    plane = page(made, Path()).resources.plane.points
    gaps = np.linalg.norm(plane[:, None] - plane[None], axis=2) + np.eye(len(plane)) * 9
    return int(gaps.min(1).argmax())


def test_a_click_shows_the_neighbours(tab):
    made = collection(60)
    row = apart(made)
    for step in range(100):  # until the map can draw, which nothing tells
        tab.page.mouse.move(tab.where(row)[0] + step % 2, tab.where(row)[1])
        tab.page.wait_for_timeout(100)
        if tab.page.locator(".tip img").count():
            break
    assert tab.page.locator(".tip").text_content().startswith(f"{row:03d}.png")  # what is under the pointer
    tab.page.mouse.click(*tab.where(row))
    wanted = made.neighbours(row)
    assert tab.cards() == wanted.rows
    shown = tab.page.locator("#panel .card .detail").all_text_contents()
    assert [float(text) for text in shown] == pytest.approx(wanted.cosines, abs=6e-4)
    tab.page.select_option("#layer", "second")
    tab.page.get_by_text("Nearest by second").wait_for()
    tab.page.wait_for_function(
        "rows => JSON.stringify([...document.querySelectorAll('#panel .card')].map(c => +c.dataset.row)) === rows",
        arg=json.dumps(made.neighbours(row, "second").rows, separators=(",", ":")),
    )
    first = tab.page.locator("#panel .card").first
    neighbour = int(first.get_attribute("data-row"))
    first.click()  # a click on a neighbour opens it
    tab.page.wait_for_function("row => window.isospherePage.state.image === row", arg=neighbour)


def test_zoomed_in_pictures_stand_for_points(tab):
    tab.page.click("#whole")
    tab.page.locator(".overlay img").first.wait_for()
    assert tab.page.locator(".overlay img").count() > 3
    boxes = [b for b in (i.bounding_box() for i in tab.page.locator(".overlay img").all()) if b]
    for a in boxes:
        for b in boxes:
            assert a is b or abs(a["x"] - b["x"]) > 40 or abs(a["y"] - b["y"]) > 40
    tab.page.keyboard.press("p")
    tab.page.locator(".overlay img").first.wait_for(state="detached")


def test_some_pictures_stand_among_many_points(browser, tmp_path):
    process, address = served(tmp_path, "600")
    try:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        shown = Tab(context, address).page.locator(".overlay img")
        shown.first.wait_for()
        boxes = [b for b in (each.bounding_box() for each in shown.all()) if b]
        assert 4 < len(boxes) < 100
        for a in boxes:
            for b in boxes:
                assert a is b or abs(a["x"] - b["x"]) > 100 or abs(a["y"] - b["y"]) > 100
        context.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_shift_and_click_adds_to_the_selection(tab):
    row = apart(collection(60))
    tab.page.evaluate("() => window.isospherePage.state.select([1], 'one')")
    tab.page.keyboard.down("Shift")
    tab.page.mouse.click(*tab.where(row))
    tab.page.keyboard.up("Shift")
    assert tab.state("selection") == [1, row]
    assert tab.state("image") is None


def lasso(tab) -> list[int]:
    """Draw around the left half of the map; the rows that were selected."""
    box = tab.page.locator("#map").bounding_box()
    left, top, middle, bottom = (
        box["x"] + 4,
        box["y"] + 60,
        box["x"] + box["width"] / 2,
        box["y"] + box["height"] - 4,
    )
    tab.page.keyboard.press("l")
    tab.page.mouse.move(left, top)
    tab.page.mouse.down()
    for x, y in ((middle, top), (middle, bottom), (left, bottom), (left, top)):
        tab.page.mouse.move(x, y, steps=8)
    tab.page.mouse.up()
    tab.page.keyboard.press("Escape")
    inside = [
        row for row in range(60) if left < tab.where(row)[0] < middle and top < tab.where(row)[1] < bottom
    ]
    assert tab.state("selection") == inside
    assert 5 < len(inside) < 55
    return inside


def test_lasso_lists_saves_labels_and_hides(tab, folder):
    rows = lasso(tab)
    assert tab.cards() == rows
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="Save CSV").click()
    lines = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    names = tab.state("names")
    assert [line["path"] for line in lines] == [names[row] for row in rows]
    assert {line["class"] for line in lines} <= {"0", "1", "2", "3", "4"}
    tab.page.fill("#panel input.label", 'left, "half"')
    tab.page.get_by_role("button", name="Label", exact=True).click()
    tab.page.get_by_text(f"{len(rows)} images labelled").wait_for()
    with (folder / "labels.csv").open(newline="") as file:
        assert {line["label"] for line in csv.DictReader(file)} == {'left, "half"'}
    tab.page.get_by_role("button", name="Hide", exact=True).click()
    tab.page.wait_for_function("n => window.isospherePage.state.shown.length === n", arg=60 - len(rows))
    assert tab.page.evaluate("row => window.isospherePage.view.where(row)", rows[0]) is None
    tab.open("labels")
    tab.page.get_by_role("button", name="Show them again").click()
    tab.page.wait_for_function("() => window.isospherePage.state.shown.length === 60")
    tab.page.get_by_role("button", name="Select", exact=True).click()
    assert tab.state("selection") == rows
    tab.page.get_by_role("button", name="Remove label").click()
    tab.page.get_by_text("Label of").wait_for()
    with (folder / "labels.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == []


def test_shift_and_drag_selects_a_rectangle(tab):
    box = tab.page.locator("#map").bounding_box()
    tab.page.keyboard.down("Shift")
    tab.page.mouse.move(box["x"] + 3, box["y"] + 70)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3, steps=5)
    tab.page.mouse.up()
    tab.page.keyboard.up("Shift")
    tab.page.wait_for_function("() => window.isospherePage.state.selection.length > 50")


DROP = """async ([bytes, name, kind]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], name, { type: kind }));
  for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_a_dropped_picture_is_searched(tab):
    stream = io.BytesIO()
    Image.fromarray(pictures(60)[21]).save(stream, "PNG")
    tab.page.evaluate(DROP, [list(stream.getvalue()), "mine.png", "image/png"])
    tab.page.get_by_text("Most like mine.png, by first").wait_for()
    assert tab.cards()[0] == 21
    assert tab.page.locator("#drop").is_hidden()


def test_a_file_is_chosen_to_be_searched(tab, tmp_path):
    Image.fromarray(pictures(60)[8]).save(tmp_path / "chosen.png")
    tab.page.set_input_files("#picture", tmp_path / "chosen.png")
    tab.page.get_by_text("Most like chosen.png").wait_for()
    assert tab.cards()[0] == 8


def test_names_are_shown_and_not_run(tab):
    tab.page.evaluate("() => window.isospherePage.state.choose(0)")
    tab.page.locator("dd", has_text=EVIL).wait_for()
    tab.page.fill("#name", "onerror")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_function("() => window.isospherePage.state.selection.length === 1")
    assert tab.state("selection") == [0]
    assert "broken" not in tab.page.title()


def test_copies_are_kept_or_dropped_in_a_list(tab):
    tab.open("copies")
    tab.page.get_by_text("0 groups; 0 images to drop.").wait_for()  # at the threshold that is taken by itself
    assert tab.page.input_value("#panel input[type=number]") == "0.99"
    tab.page.fill("#panel input[type=number]", "0.9")
    tab.page.get_by_role("button", name="Find copies").click()
    tab.page.locator(".group").first.wait_for()
    tab.page.select_option("#panel select", "largest")  # of equal size the first is kept
    tab.page.wait_for_function("() => !document.body.classList.contains('busy')")
    groups = collection(60)
    from isosphere.deploy import near_duplicates

    found = near_duplicates(groups.unit(), 0.9)
    drop = [row for group in found for row in group.rows[1:]]
    keep = tab.page.locator(".group").first.locator("input[type=checkbox]")
    keep.nth(0).uncheck()
    keep.nth(1).check()
    drop = [found[0].rows[0], *(row for row in drop if row != found[0].rows[1])]
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="Save list to drop").click()
    names = tab.state("names")
    assert sorted(Path(saved.value.path()).read_text().splitlines()) == sorted(names[row] for row in drop)


@pytest.mark.parametrize(("name", "count"), [("outliers", 60), ("typical", 24), ("diverse", 50)])
def test_lists_can_be_selected(tab, name, count):
    tab.open(name)
    rows = tab.cards()
    assert len(rows) == count
    tab.page.get_by_role("button", name="Select these").click()
    assert tab.state("selection") == rows


def test_clusters_take_names(tab, folder):
    tab.open("clusters")
    tab.page.fill("#panel input[type=number]", "5")
    tab.page.get_by_role("button", name="Cluster", exact=True).click()
    tab.page.locator(".group").nth(4).wait_for()
    name = tab.page.get_by_label("Name of cluster 2", exact=True)
    name.fill("bricks")
    name.press("Enter")
    tab.page.locator(".overlay span", has_text="bricks").wait_for()
    assert list(json.loads((folder / "explore.json").read_text())["clusters"].values()) == ["bricks"]
    tab.page.get_by_role("button", name="Colour the map").click()
    tab.page.locator("#legend", has_text="bricks").wait_for()
    tab.page.reload()
    tab.page.wait_for_selector("body.ready")
    tab.open("clusters")
    assert tab.page.get_by_label("Name of cluster 2", exact=True).input_value() == "bricks"


@pytest.mark.parametrize("column", ["class", "cluster", "ood", "agreement", "label", "none"])
def test_the_map_is_coloured(tab, column):
    tab.page.select_option("#colour", column)
    tab.page.wait_for_function(
        "title => document.querySelector('#legend summary').textContent.startsWith(title)",
        arg={"ood": "distance", "agreement": "neighbours", "none": "images"}.get(column, column),
    )
    tab.page.wait_for_timeout(300)
    assert tab.page.locator("#legend").is_visible() == (column not in ("label", "none"))  # of one colour
    colours = tab.page.locator("#map canvas").first.screenshot()
    shown = np.asarray(Image.open(io.BytesIO(colours)).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(shown // 32, axis=0)) > 2  # points are drawn


def test_by_keys_alone(tab):
    keys = tab.page.keyboard
    keys.press("/")
    keys.type("a/03")
    keys.press("Enter")
    tab.page.wait_for_function("() => window.isospherePage.state.selection.length === 10")
    keys.press("Escape")
    tab.page.locator("#map").focus()
    before = tab.where(5)
    keys.press("ArrowRight")
    keys.press("+")
    assert tab.where(5) != before
    keys.press("0")
    keys.press("Enter")
    tab.page.wait_for_function("() => window.isospherePage.state.image !== null")
    tab.cards()
    first = tab.page.locator("#panel .card").first
    first.focus()
    keys.press("ArrowRight")
    second = tab.page.locator("#panel .card").nth(1)
    row = int(second.get_attribute("data-row"))
    keys.press("Enter")
    tab.page.wait_for_function("row => window.isospherePage.state.image === row", arg=row)
    keys.press("n")
    tab.page.wait_for_function("row => window.isospherePage.state.image === row", arg=(row + 1) % 60)
    keys.press("?")
    assert tab.page.locator("#keys").is_visible()
    keys.press("Escape")
    tab.page.locator("#keys").wait_for(state="hidden")
    keys.press("5")
    assert tab.page.locator("#tab-outliers").get_attribute("aria-selected") == "true"
    tab.page.locator("#tab-outliers").focus()
    keys.press("ArrowRight")
    assert tab.page.locator("#tab-typical").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize(("width", "height"), [(360, 740), (820, 1100), (1440, 900)])
@pytest.mark.parametrize("dark", [False, True])
def test_widths_and_darkness(browser, address, width, height, dark):
    settings = {"color_scheme": "dark" if dark else "light", "has_touch": width < 500}
    context = browser.new_context(viewport={"width": width, "height": height}, **settings)
    tab = Tab(context, address)
    assert tab.page.evaluate("() => document.documentElement.scrollWidth") <= width
    box = tab.page.locator("#map").bounding_box()
    assert min(box["width"], box["height"]) > 200
    row = apart(collection(60))
    if width < 500:
        tab.page.touchscreen.tap(*tab.where(row))
    else:
        tab.page.mouse.click(*tab.where(row))
    assert tab.cards() == collection(60).neighbours(row).rows
    for name in ("copies", "clusters", "labels"):
        tab.open(name)
        tab.page.wait_for_timeout(200)
        assert tab.page.evaluate("() => document.querySelector('#panel').scrollWidth") <= width
    tab.page.keyboard.press("Escape")
    ground = tab.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(","))
    assert (light < 150) == dark
    shot = tab.page.locator("#map canvas").first.screenshot()
    assert (np.median(np.asarray(Image.open(io.BytesIO(shot)).convert("L"))) < 60) == dark
    context.close()
    assert (tab.faults, tab.strangers) == ([], [])


def test_a_folder_of_files_is_the_page(browser, tmp_path):
    made = collection(60)
    made.source.paths[0] = "</script>" + EVIL
    index = export_page(page(made, tmp_path / "run"), tmp_path / "page")
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    tab = Tab(context, index.as_uri())
    row = apart(made)
    tab.page.mouse.click(*tab.where(row))
    assert tab.cards() == made.neighbours(row).rows
    tab.page.select_option("#layer", "second")
    tab.page.wait_for_function(
        "row => +document.querySelector('#panel .card')?.dataset.row === row",
        arg=made.neighbours(row, "second").rows[0],
    )
    tab.page.evaluate("() => window.isospherePage.state.choose(0)")
    tab.page.locator("dd", has_text="</script>").wait_for()
    for name in ("copies", "outliers", "typical", "diverse", "clusters", "labels"):
        tab.open(name)
        tab.page.wait_for_timeout(200)
    tab.page.select_option("#colour", "ood")
    lasso(tab)
    tab.page.fill("#panel input.label", "mine")
    tab.page.get_by_role("button", name="Label", exact=True).click()
    tab.page.get_by_text("images labelled mine").wait_for()
    assert tab.page.locator(".fault:visible").count() == 0
    context.close()
    assert (tab.faults, tab.strangers) == ([], [])


def test_a_click_is_answered_at_once_among_many(browser, tmp_path):
    """Of 100,000 images with 512 numbers each; the median of clicks, from the click to the neighbours on the page."""
    process, address = served(tmp_path, "100000", "512")
    try:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        tab = Tab(context, address)
        times = []
        for row in range(0, 100_000, 100_000 // 12):
            tab.page.evaluate("row => window.isospherePage.pick(row)", row)
            tab.page.wait_for_function(
                "row => performance.getEntriesByName('isosphere:answered').some(e => e.detail === row)",
                arg=row,
            )
            times.append(
                tab.page.evaluate(
                    """row => {
                      const mine = name => performance.getEntriesByName(name).filter(e => e.detail === row);
                      const at = name => mine(name).pop().startTime;
                      return at("isosphere:answered") - at("isosphere:clicked");
                    }""",
                    row,
                )
            )
        context.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip(f"the machine is busy: no time is measured (median {np.median(times[1:]):.0f} ms)")
    assert np.median(times[1:]) < 100
