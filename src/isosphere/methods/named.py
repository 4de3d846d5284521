"""Methods by name, as the command line knows them."""

__all__ = ["METHODS", "MethodEntry", "build_method"]

from collections.abc import Callable
from typing import Any, NamedTuple

from isosphere.discrepancies import build_discrepancy
from isosphere.errors import UsageError, nearest
from isosphere.methods.base import Method
from isosphere.methods.jepa import JEPA
from isosphere.models import Encoder, MLPHead


class MethodEntry(NamedTuple):
    paper: str
    summary: str
    build: Callable[..., Method]


def _jepa(discrepancy: str) -> Callable[..., Method]:
    """The JEPA of a discrepancy; options that are not the method's own go to the discrepancy."""

    def build(
        encoder: Encoder,
        *,
        dim: int = 128,
        hidden: int = 1024,
        global_views: int,
        weight: float | None = None,
        expansion: float | None = None,
        teacher: float | None = None,
        **options: Any,
    ) -> JEPA:
        head = MLPHead(encoder.feature_dim, dim, hidden)
        test = build_discrepancy(discrepancy, dim, **options)
        return JEPA(
            encoder,
            head,
            test,
            weight=weight,
            expansion=expansion,
            teacher=teacher,
            global_views=global_views,
        )

    return build


_EXPANDED = "Expanding SPHERE-JEPA, arXiv 2606.17603"

METHODS: dict[str, MethodEntry] = {
    "sphere-jepa": MethodEntry(
        "SPHERE-JEPA, arXiv 2605.26900", "sliced test of uniformity (SUSReg)", _jepa("susreg")
    ),
    "lejepa": MethodEntry("LeJEPA, arXiv 2511.08544", "sliced test of normality (SIGReg)", _jepa("sigreg")),
    "mmd-heat": MethodEntry(_EXPANDED, "MMD to the uniform law, heat kernel", _jepa("mmd-heat")),
    "mmd-bandlimited": MethodEntry(
        _EXPANDED, "MMD of degrees 1 and 2: mean and covariance", _jepa("mmd-bandlimited")
    ),
    "mmd-induced": MethodEntry(
        _EXPANDED, "SUSReg averaged over all directions, exactly", _jepa("mmd-induced")
    ),
    "ksd-heat": MethodEntry(_EXPANDED, "kernel Stein discrepancy, heat kernel", _jepa("ksd-heat")),
    "ksd-bandlimited": MethodEntry(
        _EXPANDED, "kernel Stein discrepancy of degrees 1 and 2", _jepa("ksd-bandlimited")
    ),
    "kl-heat": MethodEntry(_EXPANDED, "KL of a kernel density estimate, heat kernel", _jepa("kl-heat")),
    "kl-vmf": MethodEntry(
        "isosphere", "KL of a kernel density estimate, von Mises-Fisher kernel", _jepa("kl-vmf")
    ),
}


def build_method(
    name: str,
    encoder: Encoder,
    *,
    global_views: int = 2,
    **options: Any,
) -> Method:
    """Build the method ``name`` around an encoder, with a fresh head.

    ``options`` are the head's widths (``dim``, ``hidden``; left out: the method's own), the method's (``weight``,
    ``expansion``, ``teacher``, ...) or its discrepancy's (``num_slices``, ...).
    Raises UsageError for an unknown name or option.
    """
    if name not in METHODS:
        raise UsageError(f"Unknown method '{name}'.{nearest(name, METHODS)} See `isosphere list methods`.")
    try:
        return METHODS[name].build(encoder, global_views=global_views, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Method '{name}' was refused: {error}.") from error
