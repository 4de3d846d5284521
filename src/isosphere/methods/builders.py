"""The rivals of the papers around an encoder: heads as published, in widths that a small machine bears."""

__all__ = [
    "align_uniform",
    "barlow_twins",
    "byol",
    "byol_contrastive",
    "byol_energy",
    "byol_spread",
    "narrow_predictor",
    "simclr",
    "simsiam",
    "vicreg",
]

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from isosphere.discrepancies import build_discrepancy
from isosphere.methods.byol import BYOL
from isosphere.methods.contrastive import AlignUniform, SimCLR
from isosphere.methods.momentum import HORIZON
from isosphere.methods.network_energy import NetworkEnergy
from isosphere.methods.redundancy import BarlowTwins, VICReg
from isosphere.methods.simsiam import SimSiam
from isosphere.models import Encoder, ProjectionHead

_Place = Literal["projection", "prediction", "features"]


def simclr(
    encoder: Encoder, *, dim: int = 128, hidden: int = 1024, global_views: int, temperature: float = 0.5
) -> SimCLR:
    """SimCLR; published widths 2048-128."""
    head = ProjectionHead(encoder.feature_dim, dim, hidden, last="normalised")
    return SimCLR(encoder, head, temperature=temperature, global_views=global_views)


def align_uniform(
    encoder: Encoder,
    *,
    dim: int = 128,
    hidden: int = 1024,
    global_views: int,
    weight: float = 0.5,
    t: float = 2.0,
    power: float = 2.0,
    layers: int = 2,
) -> AlignUniform:
    """Alignment and uniformity; published head one linear layer (``layers=1``) to 128 dimensions."""
    head = ProjectionHead(encoder.feature_dim, dim, hidden, layers)
    return AlignUniform(encoder, head, weight=weight, t=t, power=power, global_views=global_views)


def narrow_predictor(dim: int, outputs: int, bottleneck: int | None) -> ProjectionHead:
    """SimSiam's predictor; None: a bottleneck of a quarter of ``dim``, as published."""
    if bottleneck is not None and bottleneck < 1:
        raise ValueError(f"got bottleneck={bottleneck}, expected at least 1 (published: a quarter of {dim})")
    return ProjectionHead(dim, outputs, bottleneck or max(1, dim // 4), bias=True)


def simsiam(
    encoder: Encoder,
    *,
    dim: int = 512,
    hidden: int = 1024,
    global_views: int,
    bottleneck: int | None = None,
) -> SimSiam:
    """SimSiam; published widths 2048-2048-2048, predictor 512-2048."""
    head = ProjectionHead(encoder.feature_dim, dim, hidden, 3, last="standardised")
    return SimSiam(encoder, head, narrow_predictor(dim, dim, bottleneck), global_views=global_views)


def vicreg(
    encoder: Encoder,
    *,
    dim: int = 1024,
    hidden: int = 1024,
    global_views: int,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> VICReg:
    """VICReg; published widths 8192-8192-8192."""
    return VICReg(
        encoder,
        ProjectionHead(encoder.feature_dim, dim, hidden, 3),
        invariance=invariance,
        variance=variance,
        covariance=covariance,
        eps=eps,
        global_views=global_views,
    )


def barlow_twins(
    encoder: Encoder, *, dim: int = 1024, hidden: int = 1024, global_views: int, weight: float = 0.0051
) -> BarlowTwins:
    """Barlow Twins; published widths 8192-8192-8192."""
    head = ProjectionHead(encoder.feature_dim, dim, hidden, 3)
    return BarlowTwins(encoder, head, weight=weight, global_views=global_views)


def _networks(encoder: Encoder, dim: int, hidden: int) -> tuple[Encoder, ProjectionHead, ProjectionHead]:
    """BYOL's encoder, head and predictor; published widths 4096-256, predictor 4096-256."""
    return encoder, ProjectionHead(encoder.feature_dim, dim, hidden), ProjectionHead(dim, dim, hidden)


def byol(
    encoder: Encoder,
    *,
    dim: int = 256,
    hidden: int = 1024,
    global_views: int,
    teacher: float = 0.99,
    memory: float = HORIZON,
    discrepancy: str | None = None,
    weight: float | None = None,
    place: _Place = "projection",
) -> BYOL:
    """BYOL, alone or with any discrepancy by its name."""
    width = encoder.feature_dim if place == "features" else dim
    return BYOL(
        *_networks(encoder, dim, hidden),
        global_views=global_views,
        teacher=teacher,
        memory=memory,
        discrepancy=None if discrepancy is None else build_discrepancy(discrepancy, width),
        weight=weight,
        place=place,
    )


def byol_spread(discrepancy: str) -> Callable[..., BYOL]:
    """BYOL with a discrepancy of its representations; options that are not its own go to the discrepancy."""

    def build(
        encoder: Encoder,
        *,
        dim: int = 256,
        hidden: int = 1024,
        global_views: int,
        teacher: float = 0.99,
        memory: float = HORIZON,
        weight: float | None = None,
        place: _Place = "projection",
        **options: Any,
    ) -> BYOL:
        test = build_discrepancy(discrepancy, encoder.feature_dim if place == "features" else dim, **options)
        return BYOL(
            *_networks(encoder, dim, hidden),
            global_views=global_views,
            teacher=teacher,
            memory=memory,
            discrepancy=test,
            weight=weight,
            place=place,
        )

    return build


def byol_contrastive(
    encoder: Encoder,
    *,
    dim: int = 256,
    hidden: int = 1024,
    global_views: int,
    teacher: float = 0.99,
    memory: float = HORIZON,
    weight: float = 0.5,
    temperature: float = 0.5,
) -> BYOL:
    """BYOL with a contrastive term; ``weight`` is the term's."""
    return BYOL(
        *_networks(encoder, dim, hidden),
        global_views=global_views,
        teacher=teacher,
        memory=memory,
        temperature=temperature,
        weight_contrastive=weight,
    )


def byol_energy(
    encoder: Encoder,
    *,
    dim: int = 256,
    hidden: int = 1024,
    global_views: int,
    teacher: float = 0.99,
    memory: float = HORIZON,
    weight_energy: float | None = None,
    energy_ratio: float | None = None,
    power: float = 2.0,
    half_space: bool = False,
    hidden_weight: float = 1.0,
    output_weight: float = 1.0,
) -> BYOL:
    """BYOL with the hyperspherical energy of the online network's weights."""
    networks = _networks(encoder, dim, hidden)
    energy = NetworkEnergy(
        nn.ModuleList(networks),
        power,
        half_space,
        hidden_weight=hidden_weight,
        output_weight=output_weight,
    )
    return BYOL(
        *networks,
        teacher=teacher,
        memory=memory,
        energy=energy,
        weight_energy=weight_energy,
        energy_ratio=energy_ratio,
        global_views=global_views,
    )
