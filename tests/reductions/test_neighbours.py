"""Blocked nearest neighbours against a full sort, with real ties, in any blocking."""

import pytest
import torch
from torch.nn import functional

from isosphere.reductions._neighbours import inner_product_blocks, nearest_neighbours


def reference(queries, database, k):
    """Full product, stable sort: of equal values the smaller index first."""
    ordered = (queries @ database.T).sort(dim=1, descending=True, stable=True)
    return ordered.values[:, :k], ordered.indices[:, :k]


@pytest.mark.parametrize("k", [1, 5, 20, 200])
@pytest.mark.parametrize(("query_block", "database_block"), [(1024, 16384), (7, 511), (64, 20)])
def test_equals_a_stable_sort_where_ties_abound(k, query_block, database_block):
    # Small integers: products are exact and many are equal, so that only the tie rule decides.
    queries, database = torch.randint(-2, 3, (65, 4)).float(), torch.randint(-2, 3, (3000, 4)).float()
    values, indices = nearest_neighbours(
        queries, database, k, query_block=query_block, database_block=database_block
    )
    expected_values, expected = reference(queries, database, k)
    assert torch.equal(values, expected_values)
    assert torch.equal(indices, expected)


def test_two_step_search_is_exact_on_a_long_database():
    queries, database = torch.randn(20, 8), torch.randn(40_000, 8)
    values, indices = nearest_neighbours(queries, database, 10)
    expected_values, expected = reference(queries, database, 10)
    assert torch.equal(indices, expected)
    torch.testing.assert_close(values, expected_values)


def test_negative_zero_is_zero():
    values, indices = nearest_neighbours(torch.ones(1, 1), torch.tensor([[-0.0], [0.0], [-1.0]]), 3)
    assert indices.tolist() == [[0, 1, 2]]
    assert values.tolist() == [[0.0, 0.0, -1.0]]


def test_all_of_the_database_and_one_row():
    assert nearest_neighbours(torch.ones(2, 3), torch.ones(1, 3), 1)[1].tolist() == [[0], [0]]
    assert nearest_neighbours(torch.ones(1, 3), torch.ones(9, 3), 9)[1].tolist() == [list(range(9))]


@pytest.mark.parametrize("database_block", [16384, 13])
def test_leave_one_out_never_returns_the_query(database_block):
    x = functional.normalize(torch.randn(50, 6), dim=1)
    x = torch.cat([x, x])  # every row has a twin, which must be found first
    own = torch.arange(100)
    _, indices = nearest_neighbours(x, x, 99, exclude=own, database_block=database_block)
    assert not (indices == own[:, None]).any()
    assert torch.equal(indices[:, 0], (own + 50) % 100)


def test_excluding_the_only_row_leaves_nothing():
    values, indices = nearest_neighbours(torch.ones(1, 2), torch.ones(1, 2), 1, exclude=torch.tensor([0]))
    assert values.item() == float("-inf")
    assert indices.item() == -1


def test_half_precision_input_and_autocast_give_float32_similarities():
    x = torch.randn(30, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, _ = nearest_neighbours(x, x, 3)
    torch.testing.assert_close(values, reference(x, x, 3)[0])
    assert nearest_neighbours(x.half(), x.half(), 3)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("queries", "database", "k", "says"),
    [
        (torch.ones(2, 3), torch.ones(4, 2), 1, "expected"),
        (torch.ones(2, 3), torch.ones(4, 3), 5, "1 to 4"),
        (torch.ones(2, 3), torch.ones(4, 3), 0, "1 to 4"),
        (torch.full((2, 3), float("nan")), torch.ones(4, 3), 1, "queries: got non-finite"),
        (torch.ones(2, 3), torch.full((4, 3), float("inf")), 1, "database: got non-finite"),
    ],
)
def test_wrong_arguments_are_refused(queries, database, k, says):
    with pytest.raises(ValueError, match=says):
        nearest_neighbours(queries, database, k)


def test_exclude_needs_a_row_per_query():
    with pytest.raises(ValueError, match="one row per query"):
        nearest_neighbours(torch.ones(2, 3), torch.ones(4, 3), 1, exclude=torch.tensor([0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_put_together_are_the_product(dtype):
    x, y = torch.randn(23, 5, dtype=dtype), torch.randn(31, 5, dtype=dtype)
    whole = torch.full((23, 31), float("nan"), dtype=dtype)
    for rows, product in inner_product_blocks(x.requires_grad_(), y, rows=6):
        assert not product.requires_grad
        whole[rows] = product
    torch.testing.assert_close(whole, (x @ y.T).detach())
