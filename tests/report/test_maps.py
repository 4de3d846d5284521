"""Maps of embeddings by UMAP: where it is installed, and what is said where it is not."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from isosphere.errors import UsageError
from isosphere.report import _maps as maps
from isosphere.report._figures import map_figure
from isosphere.report._maps import check_map, embed_plane, principal_plane


@pytest.fixture
def stand_in(monkeypatch):
    """A module in UMAP's place: the first two columns, the first row nowhere."""
    asked = []

    class UMAP:
        def __init__(self, **options):
            asked.append(options)

        def fit_transform(self, x):
            plane = x[:, :2].copy()
            plane[0] = np.nan
            return plane

    module = ModuleType("umap")
    module.UMAP = UMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    monkeypatch.setattr(maps, "find_spec", lambda name: module)
    return asked


def test_principal_components_by_default():
    x = torch.randn(30, 5)
    plane, shares = embed_plane(x)
    expected, theirs = principal_plane(x)
    assert np.array_equal(plane, expected)
    assert shares == theirs


def test_umap_is_asked_for_a_deterministic_map_by_cosine(stand_in):
    x = torch.randn(30, 5)
    plane, shares = embed_plane(x, "umap")
    assert shares is None
    (options,) = stand_in
    assert options == {
        "n_components": 2, "n_neighbors": 15, "min_dist": 0.1, "metric": "cosine", "random_state": 0, "n_jobs": 1
    }  # fmt: skip
    assert np.allclose(plane[1:], x[1:, :2])
    assert np.allclose(plane[0], plane[1:].mean(0))  # what has no place goes to the middle
    pytest.importorskip("matplotlib")
    assert "variance" not in map_figure(plane, shares, np.full(30, -1), 0)


@pytest.mark.parametrize("x", [torch.randn(15, 4), torch.ones(40, 4)])
def test_too_few_or_equal_rows_are_shown_by_principal_components(stand_in, x):
    assert embed_plane(x, "umap")[1] is not None
    assert stand_in == []


def test_without_it_the_message_says_what_to_type(monkeypatch):
    monkeypatch.setattr(maps, "find_spec", lambda name: None)
    assert check_map("pca") == "pca"
    with pytest.raises(UsageError, match="pip install umap-learn"):
        check_map("umap")
    with pytest.raises(UsageError, match="expected pca or umap"):
        check_map("tsne")
    with pytest.raises(UsageError, match="not installed"):
        embed_plane(torch.randn(30, 4), "umap")


@pytest.mark.slow  # a minute of compilation
def test_umap_itself_keeps_clusters_together():
    pytest.importorskip("umap")
    x = torch.cat([torch.randn(1, 8) * 5 + 0.1 * torch.randn(20, 8) for _ in range(3)])
    epochs: list[tuple[int, int]] = []
    plane, _ = embed_plane(x, "umap", progress=lambda done, total: epochs.append((done, total)))
    assert epochs == sorted(epochs)
    assert epochs[-1][0] == epochs[-1][1] > 100
    assert np.array_equal(plane, embed_plane(x, "umap")[0])
    assert np.isfinite(plane).all()
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=2) + 1e9 * np.eye(60)
    assert (distance.argmin(1) // 20 == np.arange(60) // 20).all()
