"""Methods by name, as the command line knows them."""

__all__ = ["METHODS", "MethodEntry", "build_method"]

from collections.abc import Callable
from typing import Any, NamedTuple

from isosphere.discrepancies import build_discrepancy
from isosphere.errors import UsageError, listing, nearest
from isosphere.methods import builders, variational
from isosphere.methods.base import Method
from isosphere.methods.deep_jepa import DeepJEPA
from isosphere.methods.jepa import JEPA
from isosphere.methods.momentum import HORIZON
from isosphere.methods.options import check_options
from isosphere.models import Encoder, MLPHead


class MethodEntry(NamedTuple):
    """A row of the list of methods; ``discrepancy`` names the one that takes the options ``build`` does not know."""

    paper: str
    summary: str
    build: Callable[..., Method]
    discrepancy: str | None = None


def _jepa(
    discrepancy: str, momentum: float | None = None, share: float | None = None
) -> Callable[..., Method]:
    """The JEPA of a discrepancy; options that are not the method's own go to the discrepancy.

    ``features``: the share of the loss that is of the backbone's features; None: none of it.
    """

    def build(
        encoder: Encoder,
        *,
        dim: int = 128,
        hidden: int = 1024,
        global_views: int,
        weight: float | None = None,
        expansion: float | None = None,
        cutoff: float | None = None,
        teacher: float | None = momentum,
        memory: float = HORIZON,
        features: float | None = share,
        **options: Any,
    ) -> JEPA:
        head = MLPHead(encoder.feature_dim, dim, hidden)
        test = build_discrepancy(discrepancy, dim, **options)
        ours: Any = {
            "weight": weight,
            "expansion": expansion,
            "cutoff": cutoff,
            "teacher": teacher,
            "memory": memory,
            "global_views": global_views,
        }
        if features is None:
            return JEPA(encoder, head, test, **ours)
        inner = build_discrepancy(discrepancy, encoder.feature_dim, **options)
        return DeepJEPA(encoder, head, test, inner, share=features, **ours)

    return build


def _family(
    paper: str, summary: str, discrepancy: str, teacher: float | None = None, features: float | None = None
) -> MethodEntry:
    return MethodEntry(paper, summary, _jepa(discrepancy, teacher, features), discrepancy)


def _byol(paper: str, summary: str, discrepancy: str) -> MethodEntry:
    return MethodEntry(paper, summary, builders.byol_spread(discrepancy), discrepancy)


_SPHERE = "SPHERE-JEPA, arXiv 2605.26900"
_EXPANDED = "Expanding SPHERE-JEPA, arXiv 2606.17603"
_LEJEPA = "LeJEPA, arXiv 2511.08544"
_VJE = "Joint Embedding Variational Bayes, arXiv 2602.05639"
_HYPERSPHERICAL = "Hyperspherically regularised networks, arXiv 2105.00925"

METHODS: dict[str, MethodEntry] = {
    "sphere-jepa": _family(_SPHERE, "sliced test of uniformity (SUSReg)", "susreg"),
    "lejepa": _family(_LEJEPA, "sliced test of normality (SIGReg)", "sigreg"),
    "mmd-heat": _family(_EXPANDED, "MMD to the uniform law, heat kernel", "mmd-heat"),
    "mmd-bandlimited": _family(_EXPANDED, "MMD of degrees 1 and 2: mean and covariance", "mmd-bandlimited"),
    "mmd-induced": _family(_EXPANDED, "SUSReg averaged over all directions, exactly", "mmd-induced"),
    "ksd-heat": _family(_EXPANDED, "kernel Stein discrepancy, heat kernel", "ksd-heat"),
    "ksd-bandlimited": _family(_EXPANDED, "kernel Stein discrepancy of degrees 1 and 2", "ksd-bandlimited"),
    "kl-heat": _family(_EXPANDED, "KL of a kernel density estimate, heat kernel", "kl-heat"),
    "kl-vmf": _family("isosphere", "KL of a kernel density estimate, von Mises-Fisher kernel", "kl-vmf"),
    "mmd+kl": _family("isosphere", "half MMD, half KL to the uniform law", "mmd+kl"),
    "sphere-jepa-ema": _family(_SPHERE, "sphere-jepa with a slow teacher's centre", "susreg", 0.996),
    "lejepa-ema": _family(_SPHERE, "lejepa with a slow teacher's centre", "sigreg", 0.996),
    "mmd-ema": _family("isosphere", "mmd-heat with a slow teacher's centre", "mmd-heat", 0.996),
    "kl-ema": _family("isosphere", "kl-vmf with a slow teacher's centre", "kl-vmf", 0.996),
    "kl-deep": _family("isosphere", "kl-vmf of the embeddings and of the features", "kl-vmf", features=0.25),
    "byol": MethodEntry("BYOL, arXiv 2006.07733", "predict a slow teacher's projection", builders.byol),
    "byol-uniformity": _byol(_HYPERSPHERICAL, "BYOL with the uniformity of Wang and Isola", "uniformity"),
    "byol-mhe": MethodEntry(
        _HYPERSPHERICAL, "BYOL with the hyperspherical energy of its weights", builders.byol_energy
    ),
    "byol+contrastive": MethodEntry(
        _HYPERSPHERICAL, "BYOL with a contrastive term (NT-Xent)", builders.byol_contrastive
    ),
    "byol+mmd": _byol("isosphere", "BYOL with the MMD to the uniform law, heat kernel", "mmd-heat"),
    "byol+kl": _byol("isosphere", "BYOL with the KL to the uniform law, von Mises-Fisher kernel", "kl-vmf"),
    "simsiam": MethodEntry(
        "SimSiam, arXiv 2011.10566", "predict the other view, gradient stopped", builders.simsiam
    ),
    "simclr": MethodEntry("SimCLR, arXiv 2002.05709", "contrastive cross entropy (NT-Xent)", builders.simclr),
    "align-uniform": MethodEntry(
        "Wang and Isola, arXiv 2005.10242", "alignment plus uniformity", builders.align_uniform
    ),
    "vicreg": MethodEntry("VICReg, arXiv 2105.04906", "invariance, variance and covariance", builders.vicreg),
    "barlow-twins": MethodEntry(
        "Barlow Twins, arXiv 2103.03230", "cross-correlation to the identity", builders.barlow_twins
    ),
    "vje": MethodEntry(_VJE, "variational bound of the other view, Student-t", variational.vje),
    "vje-cauchy": MethodEntry(
        "isosphere", "VJE with a normalised spherical Cauchy factor", variational.vje_cauchy
    ),
    "vje+mmd": MethodEntry("isosphere", "VJE with the MMD of its directions", variational.vje_spread),
    "vi-simsiam": MethodEntry(
        "VI-SimSiam, arXiv 2203.11437", "SimSiam with a concentration per image", variational.vi_simsiam
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
    ``expansion``, ``cutoff``, ``teacher``, ...) or its discrepancy's (``num_slices``, ...).
    Raises UsageError for an unknown name or option, and for a value that the method refuses.
    """
    if name not in METHODS:
        raise UsageError(f"Unknown method '{name}'.{nearest(name, METHODS)} See {listing('methods')}.")
    entry = METHODS[name]
    options = check_options(name, entry.build, options, entry.discrepancy)
    try:
        return entry.build(encoder, global_views=global_views, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Method '{name}' was refused: {error}.") from error
