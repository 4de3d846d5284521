r"""What a lambda of another library is here.

Every library adds an invariance and SIGReg, and each means something else by lambda. In terms of our invariance I
(summed over dimensions, averaged over views and rows) and SIGReg R (times n, averaged over views):

==================  ======================================  =============================  ===========================
library             total                                   statistic                      ``weight / (1 - weight)``
==================  ======================================  =============================  ===========================
lejepa              (1 - lambda) I / d + lambda R           per view, times n              d lambda / (1 - lambda)
lightly             (1 - lambda) I / d + lambda R           per view, times n              d lambda / (1 - lambda)
stable-pretraining  I / d + lambda R                        views pooled, times V n        d lambda
eb_jepa             |z_1 - z_2|^2 / d + lambda R / n        per view, no n; two views      d lambda / (4 n)
==================  ======================================  =============================  ===========================

The knots differ as well: ``SIGReg(knots=33, reach=3)`` is the rule of lejepa's code, lightly and stable-pretraining
(17 knots on [0, 3], weights doubled); eb_jepa has 10 on [-3, 3].
"""

__all__ = ["weight_of_lambda"]

_LIBRARIES = ("lejepa", "lightly", "stable-pretraining", "eb_jepa")


def weight_of_lambda(value: float, library: str, *, dim: int, n: int | None = None) -> float:
    """The weight whose total has, up to one factor, the gradient of ``library``'s total at lambda ``value``.

    Args:
        value: lambda; below 1 for the convex totals of lejepa and lightly.
        library: lejepa, lightly, stable-pretraining or eb_jepa, as in the module's table.
        dim: d, of the embedding.
        n: rows of the batch over all ranks, for eb_jepa.

    Exact for lejepa, lightly and eb_jepa with the same knots. stable-pretraining pools the views into one sample: its
    statistic is another one, equal to ours in the mean where rows are independent and V times ours near collapse.
    """
    if library not in _LIBRARIES:
        raise ValueError(f"got library={library!r}, expected one of {', '.join(_LIBRARIES)}")
    if not value > 0:
        raise ValueError(f"got a lambda of {value}, expected a positive number")
    odds = dim * value
    if library in ("lejepa", "lightly"):
        if value >= 1:
            raise ValueError(
                f"got a lambda of {value} for {library}, expected one below 1: its total is convex"
            )
        odds /= 1 - value
    elif library == "eb_jepa":
        if n is None:
            raise ValueError(
                "got no n, expected the rows of the batch: eb_jepa's statistic lacks the factor n"
            )
        odds /= 4 * n
    return odds / (1 + odds)
