"""Nearest neighbours by FAISS's flat inner product: the answer of the blocked search, for single queries."""

import importlib
import math
import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from isosphere.errors import UsageError
from isosphere.reductions._neighbours import nearest_neighbours

SearchEngine = Literal["auto", "blocked", "faiss"]

FAISS_FROM, FAISS_QUERIES = 100_000, 1
"""Rows of a database from which, and queries up to which, ``auto`` takes FAISS where it is installed."""

_SLACK = 32  # candidates beyond the k-th, among which rounding may have put a neighbour
_ROUNDING = 1e-5  # of a float32 inner product, relative to the product of the largest norms


def find_neighbours(
    queries: Tensor,
    database: Tensor,
    k: int,
    *,
    engine: SearchEngine = "auto",
    largest_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The k rows of the database with the largest inner product with each query, by one of two exact searches.

    ``blocked`` is :func:`nearest_neighbours`; ``faiss`` FAISS's brute force (no index, no copy of the
    database); ``auto`` the second for up to `FAISS_QUERIES` queries of `FAISS_FROM` rows or more, where it is
    installed and the tensors lie on the CPU: one query takes it half the time of the blocks, 32 take seven
    times theirs (one thread, 200,000 x 256, FAISS 1.15). Both return the same rows in the same order, of
    equal ones the earlier first, but where inner products differ by less than their float32 rounding.

    Args:
        largest_norm: of a database row, if it is known (which also says that all are finite); None looks.
    Shape:
        queries ``(m, d)``, database ``(n, d)``; similarities float32 ``(m, k)``, rows int64 ``(m, k)``.
    Raises:
        ValueError: an unknown engine and as :func:`nearest_neighbours`
        UsageError: ``faiss`` where it is not installed.
    Numerics:
        of FAISS's k + 32 candidates the inner products are computed again in float64 and sorted by (value, row). A
        query whose last candidate is not below its k-th neighbour by more than the rounding (many duplicates) is
        searched again in blocks, so that the answer never depends on how FAISS breaks ties.
    """
    if engine not in get_args(SearchEngine):
        raise ValueError(f"engine: got {engine!r}, expected one of {', '.join(get_args(SearchEngine))}")
    on_cpu = queries.device.type == database.device.type == "cpu"
    few = len(queries) <= FAISS_QUERIES and len(database) >= FAISS_FROM
    large = engine == "auto" and on_cpu and few
    faiss = find_faiss() if engine == "faiss" or large else None
    if faiss is None:
        if engine == "faiss":
            raise UsageError(
                "the search engine faiss is not installed. Type: pip install faiss-cpu, or leave "
                "the engine out: the blocked search gives the same answer."
            )
        return nearest_neighbours(queries, database, k)
    fits = queries.ndim == database.ndim == 2 and queries.shape[1] == database.shape[1]
    if not (fits and 1 <= k <= len(database) and len(queries)):
        return nearest_neighbours(queries, database, k)  # which says what is wrong
    rows = database.detach().float().cpu().contiguous()
    asked = queries.detach().float().cpu().contiguous()
    radius = float(rows.norm(dim=1).max()) if largest_norm is None else largest_norm
    if not math.isfinite(radius) or not torch.isfinite(asked).all():
        return nearest_neighbours(queries, database, k)
    similarities, indices = _search(faiss, asked, rows, k, radius)
    return similarities.to(queries.device), indices.to(queries.device)


def _search(faiss: Any, queries: Tensor, database: Tensor, k: int, radius: float) -> tuple[Tensor, Tensor]:
    wide = min(k + _SLACK, len(database))
    _, found = faiss.knn(queries.numpy(), database.numpy(), wide, metric=faiss.METRIC_INNER_PRODUCT)
    # By row first: the stable sort by value then leaves the earlier of equal rows in front.
    candidates = torch.from_numpy(found).long().sort(dim=1).values
    values = torch.empty(candidates.shape, dtype=torch.float64)
    for part in torch.arange(len(queries)).split(256):
        picked = database[candidates[part]].double()
        values[part] = torch.einsum("mkd,md->mk", picked, queries[part].double())
    values, order = values.sort(dim=1, descending=True, stable=True)
    rows = candidates.gather(1, order)
    similarities, indices = values[:, :k].float(), rows[:, :k].contiguous()
    if wide < len(database):
        error = _ROUNDING * radius * queries.norm(dim=1).double()
        doubtful = (values[:, k - 1] - values[:, -1] <= error).nonzero().squeeze(1)
        if len(doubtful):
            similarities[doubtful], indices[doubtful] = nearest_neighbours(queries[doubtful], database, k)
    return similarities, indices


def find_faiss() -> Any:
    """The module, or None where it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of its generated bindings
            return importlib.import_module("faiss")
    except ImportError:
        return None
