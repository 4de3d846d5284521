"""What a page says of its images, against the same computed in another way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.errors import UsageError
from isosphere.explore import Pictures, Resources, plane_of
from isosphere.explore._resources import MissingError
from tests.explore.pages import collection, pictures, vectors

COUNT = 60
KEPT = Path(__file__).resolve().parent.parent / "kept_run"


@pytest.fixture
def made():
    return collection(COUNT)


@pytest.fixture
def resources(made):
    return Resources(made, plane_of(made.unit(), "pca"))


def cosines_of(layer: str) -> np.ndarray:
    rows = vectors(COUNT)[0].astype(np.float64)
    rows = rows if layer == "first" else rows[:, :8]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


@pytest.mark.parametrize("layer", ["first", "second"])
def test_neighbours_are_the_nearest_others(resources, layer):
    cosines = cosines_of(layer)
    np.fill_diagonal(cosines, -np.inf)
    for row in (0, 7, COUNT - 1):
        found = resources.get(f"neighbours/{layer}/{row}", {"k": "9"})
        best = np.argsort(-cosines[row])[:9]
        assert found["rows"] == best.tolist()
        np.testing.assert_allclose(found["cosines"], cosines[row, best], atol=2e-5)


def test_a_copy_is_a_neighbour_and_the_image_itself_is_none():
    made = collection(6)
    unit = made.unit()
    unit[3] = unit[5]
    found = made.neighbours(5, k=10)
    assert found.rows[0] == 3
    assert found.cosines[0] == pytest.approx(1)
    assert sorted(found.rows) == [0, 1, 2, 3, 4]


def test_the_graph_has_the_same_neighbours(made, resources):
    cosines, rows = made.graph("second")
    for row in range(0, COUNT, 7):
        found = resources.get(f"neighbours/second/{row}")
        assert found["rows"] == rows[row].tolist()
        np.testing.assert_allclose(found["cosines"], cosines[row], atol=2e-5)


def test_columns(resources):
    cosines, labels = cosines_of("first"), vectors(COUNT)[1]
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, 1)[:, :10]
    tenth = np.take_along_axis(cosines, near, 1)[:, 9]
    assert resources.get("column/class")["values"] == labels.tolist()
    np.testing.assert_allclose(resources.get("column/ood")["values"], np.sqrt(2 - 2 * tenth), atol=2e-5)
    same = (labels[near] == labels[:, None]).mean(1)
    np.testing.assert_allclose(resources.get("column/agreement")["values"], same, atol=1e-5)
    outliers = resources.get("outliers")
    assert outliers["rows"][:5] == np.argsort(tenth, kind="stable")[:5].tolist()


def test_columns_that_are_not_there():
    made = collection(8, labelled=False)
    resources = Resources(made, plane_of(made.unit(), "pca"))
    assert list(resources.get("meta")["columns"]) == ["cluster", "ood"]
    for name in ("column/class", "column/agreement", "column/uncertainty", "column/x"):
        with pytest.raises(MissingError):
            resources.get(name)


def test_the_uncertainty_of_a_method_is_a_column(made):
    made.scores = lambda: np.linspace(0, 1, COUNT).astype(np.float32)
    found = Resources(made, plane_of(made.unit(), "pca")).get("column/uncertainty")
    np.testing.assert_allclose(found["values"], np.linspace(0, 1, COUNT), atol=1e-5)


def test_clusters_of_separate_groups_are_these(resources):
    found = resources.get("clusters", {"k": "5"})
    labels = vectors(COUNT)[1]
    pairs = set(zip(found["values"], labels.tolist(), strict=True))
    assert len(pairs) == 5 == found["k"]
    assert [group["size"] for group in found["groups"]] == [12] * 5
    for number, group in enumerate(found["groups"]):
        assert {found["values"][row] for row in group["rows"]} == {number}


def test_lists_have_each_image_once(resources):
    for name, k in (("typical", 5), ("diverse", 20)):
        found = resources.get(name, {"k": str(k)})
        assert len(found["rows"]) == len(set(found["rows"])) == k
    labels = vectors(COUNT)[1]
    assert len(set(labels[resources.get("typical", {"k": "5"})["rows"]])) == 5


def test_duplicates_are_the_pairs_above_the_threshold():
    made = collection(20)
    unit = made.unit()
    unit[4] = unit[11]
    found = Resources(made, plane_of(unit, "pca")).get("duplicates", {"threshold": "0.9999"})
    assert [list(group["rows"]) for group in found["groups"]] == [[4, 11]]
    assert (found["count"], found["dropped"]) == (1, [11])


def test_copies_are_those_of_dedup(tmp_path):
    """One place for both: threshold, layer and groups are what `Run.dedup` finds, links left out."""
    from isosphere import load
    from isosphere.explore import explored

    run = load(shutil.copytree(KEPT, tmp_path / "run"), device="cpu")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures(COUNT)):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    (folder / "00link.png").symlink_to(folder / "00.png")
    Image.fromarray(pictures(COUNT)[9]).resize((48, 48)).save(folder / "09large.png")
    page = explored(run, str(folder), map_kind="pca")
    names = page.resources.get("names")
    wanted = run.dedup(str(folder))
    found = page.resources.get("duplicates")
    assert (found["threshold"], found["layer"]) == (wanted.threshold, wanted.layer)
    assert found["basis"] == wanted.basis
    assert [[names[row] for row in g["rows"]] for g in found["groups"]] == [list(g.paths) for g in wanted]
    assert [names[row] for row in found["dropped"]] == wanted.drop("first")
    lower = {"threshold": "0.9", "keep": "largest"}
    found, wanted = page.resources.get("duplicates", lower), wanted.at(0.9)
    assert found["basis"] == wanted.basis
    assert sorted(names[row] for row in found["dropped"]) == sorted(wanted.drop("largest"))
    assert "09large.png" not in {names[row] for row in found["dropped"]}
    assert "false pairs" in found["basis"]
    assert all("00link.png" not in {names[row] for row in g["rows"]} for g in found["groups"])


@pytest.mark.parametrize(
    "name", ["", "x", "meta/x", "neighbours", "neighbours/first", "neighbours/first/60", "neighbours/x/0"]
)
def test_names_of_nothing(resources, name):
    with pytest.raises(MissingError):
        resources.get(name)


@pytest.mark.parametrize("row", ["-1", "1.5", "²", "0x1", "1" * 40, ""])
def test_rows_that_are_no_numbers(resources, row):
    with pytest.raises(MissingError):
        resources.get(f"neighbours/first/{row}")


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("neighbours/first/0", {"k": "0"}),
        ("neighbours/first/0", {"k": "501"}),
        ("neighbours/first/0", {"x": "1"}),
        ("diverse", {"k": "61"}),
        ("clusters", {"k": "0"}),
        ("typical", {"k": "many"}),
        ("duplicates", {"threshold": "2"}),
        ("duplicates", {"threshold": "nan"}),
        ("duplicates", {"keep": "last"}),
        ("meta", {"k": "1"}),
    ],
)
def test_numbers_out_of_range_are_refused(resources, name, query):
    with pytest.raises(UsageError, match=r"got .*expected"):
        resources.get(name, query)


def test_pictures_keep_small_images_to_the_bit(made):
    import io

    from PIL import Image

    shown = Image.open(io.BytesIO(Pictures(made.source).thumbnail(7)))
    assert np.array_equal(np.asarray(shown), pictures(COUNT)[7])


def test_one_image_is_a_page():
    made = collection(1)
    resources = Resources(made, plane_of(made.unit(), "pca"))
    assert resources.get("neighbours/first/0") == {"rows": [], "cosines": []}
    for name in ("map", "clusters", "duplicates"):
        assert resources.get(name)
    assert resources.get("diverse", {"k": "1"})["rows"] == [0]


def test_a_map_of_umap_is_kept_for_the_same_rows(tmp_path, monkeypatch):
    from isosphere.explore import _plane

    calls = []

    def embed(unit, kind, progress=None):
        calls.append(kind)
        return np.full((len(unit), 2), len(calls)), None

    monkeypatch.setattr(_plane, "embed_plane", embed)
    monkeypatch.setattr(_plane, "check_map", lambda kind: kind)
    unit = torch.eye(4)
    first, again = (plane_of(unit, "umap", folder=tmp_path / "search") for _ in range(2))
    assert np.array_equal(first.points, again.points)
    assert len(calls) == 1
    assert plane_of(unit.flip(0), "umap", folder=tmp_path / "search").points[0, 0] == 2
    (tmp_path / "search" / "map-umap.npz").write_bytes(b"cut short")
    assert plane_of(unit, "umap", folder=tmp_path / "search").points[0, 0] == 3
