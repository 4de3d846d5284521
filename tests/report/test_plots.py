"""Pictures: files that open, frames where they belong, words when something is missing."""

import builtins
import math

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.errors import UsageError
from isosphere.report import loss_curves, neighbour_gallery
from isosphere.report._plots import GREEN, VERMILION

pytest.importorskip("matplotlib")


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def amount(path, colour):
    """Share of the picture in exactly this colour."""
    with Image.open(path) as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    return float((np.abs(picture - rgb(colour)).max(2) <= 2).mean())


def size(path):
    with Image.open(path) as file:
        return file.size


@pytest.fixture
def images():
    return torch.randint(0, 256, (30, 3, 24, 24), dtype=torch.uint8)


@pytest.fixture
def drawn(images, tmp_path):
    """Two queries with three neighbours each, drawn with some more arguments."""

    def draw(name="gallery.png", **more):
        found = images[torch.tensor([[5, 1, 2], [3, 9, 4]])]
        return neighbour_gallery(images[[5, 9]], found, tmp_path / name, **more)

    return draw


def test_right_neighbours_are_framed_and_only_those(drawn):
    one = drawn("one.png", right=torch.tensor([[True, False, False], [False] * 3]))
    both = drawn("both.png", right=[[True, False, False], [False, True, False]])
    assert amount(drawn("none.png"), GREEN) < 1e-4
    assert amount(one, GREEN) > 3e-3
    assert amount(both, GREEN) == pytest.approx(2 * amount(one, GREEN), rel=0.2)


def test_what_was_missed_is_shown_at_the_end_of_its_row(images, drawn):
    found, missed = drawn("found.png", missed={}), drawn("missed.png", missed={1: (images[9], 17)})
    assert amount(found, VERMILION) < 1e-4
    assert amount(missed, VERMILION) > 1e-3
    assert size(missed)[0] > size(found)[0]


def test_grey_and_float_images_with_all_the_words(images, tmp_path):
    grey = images[:, :1] / 255
    path = neighbour_gallery(
        grey[:2],
        grey[torch.tensor([[1, 2], [3, 4]])],
        tmp_path / "new" / "folder" / "grey.png",
        similarities=np.array([[0.9, 0.1], [0.5, -0.2]]),
        title="a $\\title$ with <marks> & 100 % \x1b[2J",
    )
    assert size(path)[0] > 300


def test_the_pixels_drawn_are_the_image(tmp_path):
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[:, 0] = 200
    path = neighbour_gallery(image, image[None], tmp_path / "red.png")
    assert amount(path, "#c80000") > 0.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"similarities": [[1.0], [2.0]]}, "similarities: got shape"),
        ({"right": [True, False]}, "right: got shape"),
    ],
)
def test_wrong_shapes_are_refused(images, drawn, tmp_path, arguments, says):
    with pytest.raises(ValueError, match=says):
        drawn(**arguments)
    with pytest.raises(ValueError, match=r"expected \(rows, c, h, w\) and \(rows, k, c, h, w\)"):
        neighbour_gallery(images[:2], images[:3][:, None], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def write(path, header, rows):
    path.write_text("\n".join([",".join(header), *[",".join(map(str, row)) for row in rows]]) + "\n")
    return path


def test_curves_of_a_run_with_blanks_words_and_late_columns(tmp_path):
    rows = [
        [
            s,
            s // 50,
            math.exp(-s / 90),
            1 + 0.1 * math.sin(s),
            0.3,
            1e-3 * s,
            "" if s % 50 else s / 9,
            "word",
            "nan",
        ]
        for s in range(300)
    ]
    header = ["step", "epoch", "total", "invariance", "regulariser", "learning_rate", "knn", "note", "broken"]
    path = loss_curves(write(tmp_path / "metrics.csv", header, rows), tmp_path / "curves.png", title="runs/a")
    five = size(path)
    fewer = loss_curves(write(tmp_path / "few.csv", header[:3], [r[:3] for r in rows]), tmp_path / "few.png")
    assert five[0] > 2.5 * size(fewer)[0]  # words and nan are not drawn: 5 panels against 1
    assert five[1] > 1.5 * size(fewer)[1]


def test_a_run_of_two_steps_and_one_without_step_numbers(tmp_path):
    two = write(tmp_path / "two.csv", ["step", "total"], [[0, 1], [1, 0.5]])
    bare = write(tmp_path / "bare.csv", ["total"], [[1], [0.5]])
    assert loss_curves(two, tmp_path / "two.png").exists()
    assert loss_curves(bare, tmp_path / "bare.png").exists()


def test_curves_say_what_is_missing(tmp_path):
    with pytest.raises(UsageError, match=r"metrics\.csv"):
        loss_curves(tmp_path / "absent.csv", tmp_path / "x.png")
    with pytest.raises(UsageError, match="no column"):
        loss_curves(write(tmp_path / "one.csv", ["step", "total"], [[0, 1]]), tmp_path / "x.png")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UsageError, match="no column"):
        loss_curves(tmp_path / "empty.csv", tmp_path / "x.png")


def test_without_matplotlib_the_extra_is_named(images, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match="pip install matplotlib"):
        neighbour_gallery(images[:1], images[None, 1:2], tmp_path / "x.png")
    with pytest.raises(UsageError, match="matplotlib"):
        loss_curves(tmp_path / "x.csv", tmp_path / "x.png")


def test_the_readers_own_settings_of_matplotlib_are_left_alone(drawn):
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawn(title="t")
    assert dict(matplotlib.rcParams) == before
