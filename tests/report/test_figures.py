"""Figures of a report: right numbers, and SVG that a page can hold."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from torch.nn import functional

from isosphere.report import _figures as figures
from isosphere.report._collapse import collapse_tiles, paired
from isosphere.report._figures import (
    cosine_figure,
    curve_figure,
    map_figure,
    spectrum_figure,
    thumbnail_map,
)
from isosphere.report._maps import principal_plane
from isosphere.sphere import sample_uniform

pytest.importorskip("matplotlib")


def elements(svg):
    return ET.fromstring(svg).iter()


def every_figure():
    z = torch.randn(60, 8)
    plane, shares = principal_plane(z)
    steps = np.arange(200.0)
    return [
        cosine_figure({"a": z, "b <&> c": torch.randn(50, 5)}),
        spectrum_figure({"a": z, "b <&> c": torch.randn(50, 5)}),
        curve_figure([(steps, steps**0.5), None, (steps[:3], steps[:3])]),
        map_figure(plane, shares, np.arange(60) % 3, 3),
    ]


def test_names_of_runs_are_drawn_as_they_are(recwarn):
    """Neither as mathematics, nor left out of the legend as matplotlib's own."""
    z, counts = torch.randn(60, 8), []
    for name in ("bad", r"$\bad$", "_bad", "bad\x1b[2J\u202e", "猫"):
        svg = spectrum_figure({name: z}) + cosine_figure({name: z})
        ET.fromstring(f"<page>{svg}</page>".replace("xlink:href", "href"))
        counts.append(svg.count('id="f'))
    assert min(counts[1:]) >= counts[0], "each has its line in the legend"
    assert not recwarn.list


def test_svg_is_well_formed_coloured_by_the_page_and_fetches_nothing():
    ids = []
    for svg in every_figure():
        for element in elements(svg):
            ids += [value for key, value in element.attrib.items() if key == "id"]
            links = [value for key, value in element.attrib.items() if key.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in links)
            assert {link[1:] for link in links if link.startswith("#")} <= {
                e.attrib.get("id") for e in elements(svg)
            }
        assert "#0102" not in svg
        assert "var(--faint)" in svg
        assert "<style" not in svg
        assert "http" not in svg.replace("http://www.w3.org/", "")
        # A colour that is not a variable would be wrong on one of the two grounds.
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) <= {"#000000"}
    assert len(ids) == len(set(ids))


def test_names_are_escaped_in_legends():
    assert "b &lt;&amp;&gt; c" in every_figure()[0]


def test_cosines_are_counted_once_a_pair_and_never_an_image_with_itself():
    z = torch.randn(700, 6)
    edges = np.linspace(-1, 1, 41)
    unit = functional.normalize(z, dim=1)
    gram = (unit @ unit.T).numpy()
    expected, _ = np.histogram(gram[~np.eye(700, dtype=bool)], edges)
    counts = figures._cosine_counts(z, edges)
    assert counts.sum() == 700 * 699
    assert np.abs(counts - expected).sum() <= 20  # cosines that rounding moves over an edge


@pytest.mark.parametrize("z", [torch.ones(30, 4), torch.eye(4)[[0] * 15 + [1] * 15], torch.zeros(30, 4)])
def test_degenerate_samples_are_drawn(z):
    for draw in (cosine_figure, spectrum_figure):
        assert draw({"collapsed": z}).startswith("<svg")
    plane, shares = principal_plane(z)
    assert map_figure(plane, shares, np.full(30, -1), 0).startswith("<svg")
    sheet = thumbnail_map(plane, torch.zeros(30, 3, 8, 8, dtype=torch.uint8).__getitem__, np.full(30, -1), 0)
    assert sheet.width > 0


def test_principal_plane_is_that_of_the_singular_value_decomposition():
    x = torch.randn(80, 7) * torch.arange(1, 8)
    plane, shares = principal_plane(x)
    u, s, _ = np.linalg.svd((x - x.mean(0)).double().numpy(), full_matrices=False)
    assert np.allclose(np.abs(plane), np.abs(u[:, :2] * s[:2]), atol=1e-8)
    assert np.allclose(shares, (s**2 / (s**2).sum())[:2])
    assert (plane[np.abs(plane).argmax(0), [0, 1]] > 0).all()


def test_thumbnails_lie_where_their_points_do():
    images = torch.zeros(4, 3, 4, 4, dtype=torch.uint8)
    for i, channel in enumerate((0, 1, 2)):
        images[i, channel] = 255
    images[3] = 128
    plane = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.01, 1.01]])  # the last two share a cell
    sheet = thumbnail_map(plane, images.__getitem__, np.full(4, -1), 0, cells=3, side=10)
    assert sheet.size == (30, 30)
    pixels = np.asarray(sheet)
    assert pixels[25, 5, :3].tolist() == [255, 0, 0]  # low left
    assert pixels[25, 25, :3].tolist() == [0, 255, 0]
    assert pixels[5, 25, :3].tolist() in ([0, 0, 255], [128] * 3)
    assert pixels[5, 5, 3] == 0  # nothing there: transparent
    marked = thumbnail_map(plane, images.__getitem__, np.array([0, 1, 1, 1]), 2, cells=3, side=10)
    assert np.asarray(marked)[29, 0, :3].tolist() == [0x00, 0x72, 0xB2]


def test_the_law_in_the_figure_is_the_exact_density():
    """Its curve is read back from the drawing: highest at 0, with the height of the density there."""
    svg = cosine_figure({"a": torch.randn(400, 16)})
    dashed = [e for e in elements(svg) if "stroke-dasharray" in e.attrib.get("style", "")]
    path = max((e.attrib["d"] for e in dashed if "d" in e.attrib), key=len)
    y = np.array([float(v) for v in re.findall(r"[ML] \S+ (\S+)", path)])
    ticks = {}
    for element in elements(svg):
        if element.attrib.get("id", "").split("-")[-1].startswith("ytick"):
            text = next(e for e in element.iter() if e.tag.endswith("text"))
            use = next(e for e in element.iter() if e.tag.endswith("use"))
            ticks[float("".join(text.itertext()).strip())] = float(use.attrib["y"])
    (a, ya), (b, yb) = sorted(ticks.items())[:2]
    height = a + (y.min() - ya) * (b - a) / (yb - ya)
    expected = math.gamma(8) / math.sqrt(math.pi) / math.gamma(7.5)
    assert height == pytest.approx(expected, rel=0.01)


def test_of_many_rows_some_are_paired_and_say_the_same():
    z = sample_uniform(5000, 8, generator=torch.Generator().manual_seed(1))
    assert len(paired(z)) == 4000
    assert torch.equal(paired(z[:4000]), z[:4000])
    assert len(paired(z).unique(dim=0)) == 4000
    tile = next(t for t in collapse_tiles(z, []) if "uniformity" in t["words"])
    assert (
        tile["value"] == tile["words"].rsplit(" ", 1)[1]
    )  # two decimals of the exact value for uniform points
