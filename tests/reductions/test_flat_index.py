"""FAISS's flat search gives the answer of the blocked one, ties and duplicates included."""

import pytest
import torch
from torch.nn import functional

from isosphere.errors import UsageError
from isosphere.reductions import _flat_index as flat_index
from isosphere.reductions import find_neighbours, nearest_neighbours


@pytest.fixture
def faiss():
    found = flat_index.find_faiss()
    if found is None:
        pytest.skip("faiss is not installed")
    return found


def both(queries, database, k):
    return (find_neighbours(queries, database, k, engine=e) for e in ("faiss", "blocked"))


@pytest.mark.parametrize(("m", "n", "d", "k"), [(1, 700, 16, 5), (37, 500, 3, 20), (5, 40, 8, 40)])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_the_same_neighbours(faiss, m, n, d, k, scale):
    queries, database = torch.randn(m, d), scale * torch.randn(n, d)
    (values, rows), (expected, positions) = both(queries, database, k)
    assert torch.equal(rows, positions)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-4 * scale)
    assert (values.dtype, rows.dtype) == (expected.dtype, positions.dtype)


def test_of_duplicates_the_earlier_come_first_however_many_there_are(faiss):
    base = functional.normalize(torch.randn(3, 6), dim=1)
    database = base[torch.randint(3, (900,))]  # each row three hundred times
    (_, rows), (_, expected) = both(base, database, 70)
    assert torch.equal(rows, expected)
    for query, found in zip(base, rows, strict=True):
        same = (database == query).all(1).nonzero().squeeze(1)
        assert torch.equal(found, same[:70])
    zeros = torch.zeros(300, 4)
    assert find_neighbours(torch.ones(1, 4), zeros, 9, engine="faiss")[1].tolist() == [list(range(9))]


def test_auto_takes_it_for_one_query_of_many_rows(faiss, monkeypatch):
    asked = []
    monkeypatch.setattr(faiss, "knn", lambda *a, own=faiss.knn, **k: asked.append(1) or own(*a, **k))
    monkeypatch.setattr(flat_index, "FAISS_FROM", 100)
    database = torch.randn(100, 4)
    expected = nearest_neighbours(database[:1], database, 3)
    for queries, rows, used in ((1, 100, 1), (1, 99, 0), (2, 100, 0)):
        asked.clear()
        found = find_neighbours(database[:queries], database[:rows], 3)
        assert len(asked) == used
        if used:
            assert torch.equal(found[1], expected[1])


def test_without_it_auto_searches_in_blocks_and_faiss_says_what_to_type(monkeypatch):
    monkeypatch.setattr(flat_index, "find_faiss", lambda: None)
    monkeypatch.setattr(flat_index, "FAISS_FROM", 10)
    database = torch.randn(50, 4)
    assert torch.equal(
        find_neighbours(database[:2], database, 3)[1], nearest_neighbours(database[:2], database, 3)[1]
    )
    with pytest.raises(UsageError, match="pip install faiss-cpu"):
        find_neighbours(database, database, 3, engine="faiss")


def test_wrong_arguments_are_refused_alike(faiss):
    database = torch.randn(20, 4)
    with pytest.raises(ValueError, match="engine"):
        find_neighbours(database, database, 3, engine="hnsw")  # type: ignore[arg-type]
    for engine in ("faiss", "blocked"):
        with pytest.raises(ValueError, match="k: got 21"):
            find_neighbours(database, database, 21, engine=engine)
        with pytest.raises(ValueError, match="shapes"):
            find_neighbours(database[:, :3], database, 2, engine=engine)
        with pytest.raises(ValueError, match="database: got non-finite"):
            find_neighbours(database, torch.full((20, 4), float("nan")), 2, engine=engine)
        with pytest.raises(ValueError, match="queries: got non-finite"):
            find_neighbours(torch.full((1, 4), float("inf")), database, 2, engine=engine)
        assert find_neighbours(database[:0], database, 2, engine=engine)[1].shape == (0, 2)
