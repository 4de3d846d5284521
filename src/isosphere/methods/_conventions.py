r"""What a lambda of another library or paper is here.

Every library adds an invariance and a statistic, and each means something else by lambda. In terms of our invariance I
(summed over dimensions, averaged over views and rows) and our statistics, SIGReg R (times n) and D (an MMD, KSD or KL,
1 at collapse), averaged over views:

===================  ======================================  ============================  ===========================
library              total                                   statistic                     ``weight / (1 - weight)``
===================  ======================================  ============================  ===========================
lejepa               (1 - lambda) I / d + lambda R           per view, times n             d lambda / (1 - lambda)
lightly              (1 - lambda) I / d + lambda R           per view, times n             d lambda / (1 - lambda)
visreg               (1 - lambda) I / d + lambda VISReg      per view, no n                d lambda / (1 - lambda)
stable-pretraining   I / d + lambda R                        views pooled, times V n       d lambda
eb_jepa              |z_1 - z_2|^2 / d + lambda R / n        per view, no n; two views     d lambda / (4 n)
sphere-jepa          (1 - lambda) I / d + lambda D           per view, no n                d lambda / (1 - lambda)
sphere-jepa          the same with SUSReg R: lambda R / n    per view, no n                d lambda / (n (1 - lambda))
sphere-jepa-literal  (1 - lambda) I + lambda D               per view; SUSReg times n      lambda / (1 - lambda)
===================  ======================================  ============================  ===========================

The knots differ as well: ``SIGReg(knots=33, reach=3)`` is the rule of lejepa's code, lightly and stable-pretraining
(17 knots on [0, 3], weights doubled); eb_jepa has 10 on [-3, 3].

*Two readings of the spherical papers* (2605.26900, 2606.17603). Neither prints whether the invariance is summed over
the d dimensions or averaged. Their formula is a squared norm; they call it a mean squared error and say that they
follow LeJEPA, whose code averages, and the second prints the sliced statistic without the factor n. "sphere-jepa" is
that reading, inferred and the likelier one; "sphere-jepa-literal" takes the formulas as they stand.
"""

__all__ = ["weight_of_lambda"]

_SPHERICAL = ("sphere-jepa", "sphere-jepa-literal")
_LIBRARIES = ("lejepa", "lightly", "visreg", "stable-pretraining", "eb_jepa", *_SPHERICAL)
_SLICED = "susreg"
_FAMILY = (
    *(_SLICED, "mmd-induced", "mmd-heat", "mmd-bandlimited"),
    *("ksd-heat", "ksd-bandlimited", "kl-heat"),
)


def weight_of_lambda(
    value: float, library: str, *, dim: int, n: int | None = None, discrepancy: str | None = None
) -> float:
    """The weight whose total has, up to one factor, the gradient of ``library``'s total at lambda ``value``.

    Args:
        value: lambda; below 1 for the convex totals, all but those of stable-pretraining and eb_jepa.
        library: lejepa, lightly, visreg, stable-pretraining, eb_jepa, or a reading of the spherical papers,
            sphere-jepa or sphere-jepa-literal, as in the module's table.
        dim: d, of the embedding.
        n: rows of the batch over all ranks: for eb_jepa, and for SUSReg in sphere-jepa.
        discrepancy: by name, of the spherical papers: susreg, mmd-heat, ksd-bandlimited, kl-heat, ... (KL with
            ``scale="paper"``: its other scales are steeper).

    Exact for all but stable-pretraining, with the same knots. That pools the views into one sample: its statistic is
    another one, equal to ours in the mean where rows are independent and V times ours near collapse.

    Raises:
        ValueError: another library or discrepancy, a lambda out of range, n or discrepancy missing where it matters.

    Example:
        >>> round(weight_of_lambda(0.05, "sphere-jepa", dim=256, discrepancy="mmd-heat"), 3)
        0.931
        >>> round(weight_of_lambda(0.05, "sphere-jepa", dim=256, n=256, discrepancy="susreg"), 3)
        0.05
    """
    if library not in _LIBRARIES:
        raise ValueError(f"got library={library!r}, expected one of {', '.join(_LIBRARIES)}")
    if not value > 0:
        raise ValueError(f"got a lambda of {value}, expected a positive number")
    if library in _SPHERICAL and discrepancy not in _FAMILY:
        raise ValueError(
            f"got discrepancy={discrepancy!r} for {library}, expected one of {', '.join(_FAMILY)}: what a lambda is "
            "there depends on it"
        )
    convex = library not in ("stable-pretraining", "eb_jepa")
    if convex and value >= 1:
        raise ValueError(f"got a lambda of {value} for {library}, expected one below 1: its total is convex")
    odds = value / (1 - value) if convex else value
    if library != "sphere-jepa-literal":  # there alone the invariance is a sum over dimensions
        odds *= dim
    if library == "eb_jepa" or (library == "sphere-jepa" and discrepancy == _SLICED):
        if n is None:
            raise ValueError(
                f"got no n, expected the rows of the batch: {library}'s statistic lacks the factor n"
            )
        odds /= 4 * n if library == "eb_jepa" else n
    return odds / (1 + odds)
