"""Nearest neighbours by inner product: exact, in blocks, in memory that does not grow with the data."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.reductions._precision import full_precision

_EMPTY = -(2**63)  # a key below every real one
_LOW = 2**32 - 1
_CONVERTED = 2**24  # numbers of the database that are brought to float32, or to norm 1, together: 64 MiB


def nearest_neighbours(
    queries: Tensor,
    database: Tensor,
    k: int,
    *,
    cosine: bool = False,
    exclude: Tensor | None = None,
    finite: bool = False,
    query_block: int = 512,
    database_block: int = 32768,
) -> tuple[Tensor, Tensor]:
    """The k rows of the database with the largest inner product (or `cosine`) with each query, best first.

    Of equal similarities (as computed, in float32) the smaller database index comes first, so that the answer
    does not depend on the order in which a sort happens to leave ties.

    Args:
        queries: ``(m, d)``.
        database: ``(n, d)``, of any number type, float16 and uint8 included.
        k: neighbours per query; at most n.
        cosine: compare rows brought to norm 1, block by block, so that no normalised copy of the database is made; a
            zero row is like nothing.
        exclude: ``(m,)`` the database row that each query may not return (itself, in a leave-one-out search).
        finite: whether all rows are known to be finite; else they are looked at, for which a device is waited for.
        query_block, database_block: rows per block; beside the answer the memory is about ``query_block *
            database_block`` float32 numbers, whatever m and n are.

    Shape:
        Similarities float32 ``(m, k)`` and indices int64 ``(m, k)``, on the queries' device. Where `exclude` leaves
        fewer than k rows the last place has similarity -inf and index -1.
    Raises:
        ValueError: wrong shapes, non-finite rows or k outside 1..n.
    Numerics:
        Products in float32 with autocast and TF32 off. A block is reduced in two steps: the maxima of short
        stretches first, then only the k stretches with the largest maxima, which hold the k largest entries by
        necessity.
    """
    _check(queries, database, k, exclude)
    if not finite:
        _check_finite(queries, database)
    m, n = len(queries), len(database)
    compared = _unit if cosine else torch.Tensor.float
    # Wide rows that have to be converted are fewer at a time.
    database_block = max(1, min(database_block, _CONVERTED // max(1, database.shape[1])))
    similarities = torch.empty(m, k, dtype=torch.float32, device=queries.device)
    indices = torch.empty(m, k, dtype=torch.int64, device=queries.device)
    with torch.no_grad(), full_precision(queries.device):
        # One buffer for every block: fresh pages cost as much as a fifth of the product.
        buffer = torch.empty(min(query_block, m) * min(database_block, n), device=queries.device)
        for top in range(0, m, query_block):
            rows = compared(queries[top : top + query_block])
            best = torch.full((len(rows), k), _EMPTY, dtype=torch.int64, device=rows.device)
            for left in range(0, n, database_block):
                columns = compared(database[left : left + database_block].to(rows.device))
                product = buffer[: len(rows) * len(columns)].view(len(rows), len(columns))
                torch.mm(rows, columns.T, out=product)
                if exclude is not None:
                    _mask(product, exclude[top : top + query_block].to(rows.device) - left)
                candidates = _block_keys(product, k, left)
                best = torch.cat([best, candidates], dim=1).topk(k, dim=1).values
            values, positions = _unpack(best)
            similarities[top : top + query_block] = values
            indices[top : top + query_block] = positions
    return similarities, indices


def inner_product_blocks(
    queries: Tensor, database: Tensor, *, rows: int = 512
) -> Iterator[tuple[slice, Tensor]]:
    """Inner products of a few queries at a time with the whole database: ``(slice, (rows, n))``, no graph.

    For statistics that need complete rows (a full ranking, a mean over all pairs) without the matrix: the
    memory is ``rows * n`` numbers. The dtype is that of the inputs, float32 at least.

    Raises:
        ValueError: shapes other than ``(m, d)`` and ``(n, d)``.
    """
    _check_shapes(queries, database)
    dtype = torch.promote_types(torch.promote_types(queries.dtype, database.dtype), torch.float32)
    columns = database.to(queries.device, dtype).T
    for top in range(0, len(queries), rows):
        here = slice(top, min(top + rows, len(queries)))
        with torch.no_grad(), full_precision(queries.device):
            product = queries[here].to(dtype) @ columns
        yield here, product


def pair_tiles(x: Tensor, *, side: int = 2048) -> Iterator[tuple[slice, slice, Tensor]]:
    """Inner products of rows with each other, in squares: ``(rows, columns, (rows, columns))``, no graph.

    Squares below the diagonal, which hold the same pairs again, are left out. The memory is ``side^2`` numbers, however
    many rows there are, and a square is large enough for a fast product.

    Shape:
        ``(n, d)``; float32 at least.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    for top in range(0, len(x), side):
        rows = slice(top, min(top + side, len(x)))
        for left in range(top, len(x), side):
            columns = slice(left, min(left + side, len(x)))
            with torch.no_grad(), full_precision(x.device):
                product = x[rows] @ x[columns].T
            yield rows, columns, product


def _unit(rows: Tensor) -> Tensor:
    return functional.normalize(rows.float(), dim=1)


def _block_keys(product: Tensor, k: int, offset: int) -> Tensor:
    """Keys of the entries of a block among which its k best are found: ``(rows, k or more)``."""
    rows, columns = product.shape
    stretch = _stretch(columns, k)
    if stretch == 1:
        return _pack(product, torch.arange(offset, offset + columns, device=product.device))
    if columns % stretch:
        product = functional.pad(product, (0, -columns % stretch), value=float("-inf"))
    pieces = product.view(rows, -1, stretch)
    # An entry outside the k stretches that come first by (maximum, position) has k entries before it.
    maxima = _pack(pieces.amax(2), torch.arange(pieces.shape[1], device=product.device))
    chosen = _LOW - (maxima.topk(k, dim=1).values & _LOW)
    entries = pieces.gather(1, chosen[:, :, None].expand(-1, -1, stretch))
    positions = offset + chosen[:, :, None] * stretch + torch.arange(stretch, device=product.device)
    return _pack(entries.flatten(1), positions.flatten(1))


def _stretch(columns: int, k: int) -> int:
    """Length of a stretch: long for fast maxima, short to leave few entries; 1 where one step is best."""
    for length in (64, 32, 16):
        if 4 * length * k <= columns:
            return length
    return 1


def _pack(values: Tensor, positions: Tensor) -> Tensor:
    """One int64 per entry, ordered by (value, smaller position first): unique, so that top-k has no ties."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (_LOW - positions)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    values = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    positions = _LOW - (keys & _LOW)
    missing = (keys == _EMPTY) | (values == float("-inf"))
    return values.masked_fill(missing, float("-inf")), positions.masked_fill(missing, -1)


def _mask(product: Tensor, column: Tensor) -> None:
    inside, place = (column >= 0) & (column < product.shape[1]), column.clamp(0, product.shape[1] - 1)
    kept = product.gather(1, place[:, None])
    product.scatter_(1, place[:, None], kept.masked_fill(inside[:, None], float("-inf")))


def _check_shapes(queries: Tensor, database: Tensor) -> None:
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"queries, database: got shapes {tuple(queries.shape)} and {tuple(database.shape)}, "
            "expected (m, d) and (n, d)"
        )


def _check(queries: Tensor, database: Tensor, k: int, exclude: Tensor | None) -> None:
    _check_shapes(queries, database)
    if not 1 <= k <= len(database):
        raise ValueError(f"k: got {k}, expected 1 to {len(database)}, the number of rows of the database")
    if len(database) > _LOW:
        raise ValueError(f"database: got {len(database)} rows, expected fewer than 2^32")
    if exclude is not None and exclude.shape != (len(queries),):
        raise ValueError(
            f"exclude: got shape {tuple(exclude.shape)}, expected ({len(queries)},), one row per query"
        )


def _check_finite(queries: Tensor, database: Tensor) -> None:
    for name, x in (("queries", queries), ("database", database)):
        if not x.is_floating_point():  # finite, and their sum would first be copied to 64 bits
            continue
        # A finite sum means finite entries, in one fast pass; an overflowing one says nothing yet.
        if not torch.isfinite(x.sum()) and not all(torch.isfinite(part).all() for part in x.split(4096)):
            raise ValueError(
                f"{name}: got non-finite numbers, expected finite ones; drop or repair these rows"
            )
