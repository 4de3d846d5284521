"""How to sum: the only code that touches n x n inner products or another rank."""

from isosphere.reductions._characteristic import sliced_characteristic_distance
from isosphere.reductions._close_pairs import ALL_PAIRS, close_tiles
from isosphere.reductions._collective import (
    Group,
    all_reduce,
    equal_rows,
    first_row,
    gather_rows,
    row_counts,
    rows_are_equal,
    rows_of_all,
    world_size,
)
from isosphere.reductions._flat_index import SearchEngine, find_faiss, find_neighbours
from isosphere.reductions._grams import cosine_pair_means, together
from isosphere.reductions._nearest import nearest_log_distance
from isosphere.reductions._neighbours import inner_product_blocks, nearest_neighbours, pair_tiles
from isosphere.reductions._pairwise import PairFunction, pair_log_sum, pair_mean
from isosphere.reductions._precision import (
    double_on_cpu,
    full_precision,
    has_float64,
    in_float64,
    outside_transforms,
    wide,
    widest,
)

__all__ = [
    "ALL_PAIRS",
    "Group",
    "PairFunction",
    "SearchEngine",
    "all_reduce",
    "close_tiles",
    "cosine_pair_means",
    "double_on_cpu",
    "equal_rows",
    "find_faiss",
    "find_neighbours",
    "first_row",
    "full_precision",
    "gather_rows",
    "has_float64",
    "in_float64",
    "inner_product_blocks",
    "nearest_log_distance",
    "nearest_neighbours",
    "outside_transforms",
    "pair_log_sum",
    "pair_mean",
    "pair_tiles",
    "row_counts",
    "rows_are_equal",
    "rows_of_all",
    "sliced_characteristic_distance",
    "together",
    "wide",
    "widest",
    "world_size",
]
