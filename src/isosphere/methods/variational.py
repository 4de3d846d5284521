"""The variational methods around an encoder, in widths that a small machine bears."""

__all__ = ["vi_simsiam", "vje", "vje_cauchy", "vje_spread"]

from typing import Literal

from isosphere.discrepancies import build_discrepancy
from isosphere.methods.builders import narrow_predictor
from isosphere.methods.vi_simsiam import VISimSiam
from isosphere.methods.vje import VJE
from isosphere.models import Encoder, InferenceNetwork, ProjectionHead


def vi_simsiam(
    encoder: Encoder,
    *,
    dim: int = 512,
    hidden: int = 1024,
    global_views: int,
    bottleneck: int | None = None,
    kl_weight: float = 0.0,
) -> VISimSiam:
    """VI-SimSiam: SimSiam's networks, one more output of the predictor."""
    head = ProjectionHead(encoder.feature_dim, dim, hidden, 3, last="standardised")
    predictor = narrow_predictor(dim, dim + 1, bottleneck)
    return VISimSiam(encoder, head, predictor, kl_weight=kl_weight, global_views=global_views)


def _inference(
    encoder: Encoder, dim: int | None, hidden: int, *, batch_norm: bool, tied: bool = True
) -> InferenceNetwork:
    """VJE's only network beside the encoder. Raises ValueError for another dimension than the encoder's."""
    if dim not in (None, encoder.feature_dim):
        raise ValueError(
            f"got dim={dim}, expected {encoder.feature_dim} or nothing: there is no projection head, the embedding has "
            "the dimension of the encoder's features"
        )
    return InferenceNetwork(encoder.feature_dim, hidden, outputs=2 if tied else 3, batch_norm=batch_norm)


def vje(
    encoder: Encoder,
    *,
    dim: int | None = None,
    hidden: int = 1024,
    global_views: int,
    degrees_of_freedom: float = 5.0,
    sigma_min: float = 0.01,
    unit: float | None = None,
    tied: bool = True,
    batch_norm: bool = True,
    standardise: bool = True,
    radial: bool = True,
    radial_degrees_of_freedom: float = 5.0,
    radial_scale: float = 0.2,
    stop_gradient: bool = True,
    kl_weight: float = 1.0,
    samples: int = 1,
    seed: int = 0,
) -> VJE:
    """VJE with the Student-t factor."""
    return VJE(
        encoder,
        _inference(encoder, dim, hidden, batch_norm=batch_norm, tied=tied),
        degrees_of_freedom=degrees_of_freedom,
        sigma_min=sigma_min,
        unit=unit,
        standardise=standardise,
        radial=radial,
        radial_degrees_of_freedom=radial_degrees_of_freedom,
        radial_scale=radial_scale,
        stop_gradient=stop_gradient,
        kl_weight=kl_weight,
        samples=samples,
        global_views=global_views,
        seed=seed,
    )


def vje_cauchy(
    encoder: Encoder,
    *,
    dim: int | None = None,
    hidden: int = 1024,
    global_views: int,
    rho: float = 0.8,
    batch_norm: bool = True,
    standardise: bool = True,
    radial: bool = True,
    stop_gradient: bool = True,
    kl_weight: float = 1.0,
    samples: int = 1,
) -> VJE:
    """VJE with the spherical Cauchy factor."""
    return VJE(
        encoder,
        _inference(encoder, dim, hidden, batch_norm=batch_norm),
        directional="cauchy",
        rho=rho,
        standardise=standardise,
        radial=radial,
        stop_gradient=stop_gradient,
        kl_weight=kl_weight,
        samples=samples,
        global_views=global_views,
    )


def vje_spread(
    encoder: Encoder,
    *,
    dim: int | None = None,
    hidden: int = 1024,
    global_views: int,
    discrepancy: str = "mmd-heat",
    weight: float | None = None,
    directional: Literal["student", "cauchy"] = "cauchy",
    degrees_of_freedom: float | None = None,
    sigma_min: float | None = None,
    unit: float | None = None,
    rho: float | None = None,
    tied: bool = True,
    batch_norm: bool = True,
    standardise: bool = True,
    radial: bool = True,
    stop_gradient: bool = True,
    kl_weight: float = 1.0,
    samples: int = 1,
) -> VJE:
    """VJE with a discrepancy (any by its name) of the directions of the embeddings."""
    return VJE(
        encoder,
        _inference(encoder, dim, hidden, batch_norm=batch_norm, tied=tied),
        directional=directional,
        degrees_of_freedom=degrees_of_freedom,
        sigma_min=sigma_min,
        unit=unit,
        rho=rho,
        discrepancy=build_discrepancy(discrepancy, encoder.feature_dim),
        weight=weight,
        standardise=standardise,
        radial=radial,
        stop_gradient=stop_gradient,
        kl_weight=kl_weight,
        samples=samples,
        global_views=global_views,
    )
