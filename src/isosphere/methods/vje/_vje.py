"""Joint embedding by variational inference: a posterior about each view's embedding must explain the other view's."""

__all__ = ["VJE"]

from typing import Any

import torch
from torch import Tensor, nn

from isosphere.devices import constant, send
from isosphere.methods._base import SLOW_START, Loss, Regularised
from isosphere.methods._pairs import directed_pairs, entries, row_mean
from isosphere.methods._registry import alias, method
from isosphere.methods._regulariser import Discrepant, Pull, Regulariser
from isosphere.methods.vje._evidence import (
    Directional,
    Posterior,
    RadialFactor,
    directional_factor,
    evidence_scores,
)
from isosphere.methods.vje._likelihood import diagonal_gaussian_kl
from isosphere.models import Encoder, InferenceNetwork
from isosphere.reductions import first_row, full_precision, row_counts, wide
from isosphere.seeds import mixed_seed
from isosphere.sphere import normalize, polar

_PAPER = "Joint Embedding Variational Bayes, arXiv 2602.05639"

_PASSED = 0.25
"""Share of the directional factor's slope that reaches the encoder through the inference network: measured, by the
weight of the MMD that was best on CIFAR-10 (docs/decisions.md).
"""


def _gaussian(h: Tensor, draw: int | Tensor, seed: int, total: int, start: int, samples: int) -> Tensor:
    """Noise ``(samples, views, n_r, d)`` for ``h`` ``(views, n_r, d)``: its rows begin at ``start`` of ``total``."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, int(draw)))
    views, rows, dim = h.shape
    noise = torch.randn(total, samples, views, dim, generator=generator)
    return send(noise[start : start + rows].permute(1, 2, 0, 3).to(h.dtype), h.device)


@torch.library.custom_op("isosphere::gaussian", mutates_args=())
def _gaussian_operator(h: Tensor, draw: Tensor, seed: int, total: int, start: int, samples: int) -> Tensor:
    """The same as one operator of a compiled step, which can make no generator."""
    return _gaussian(h, draw, seed, total, start, samples).contiguous()


@_gaussian_operator.register_fake
def _(h: Tensor, draw: Tensor, seed: int, total: int, start: int, samples: int) -> Tensor:
    return h.new_empty(samples, *h.shape)


class VJE(Regularised):
    r"""The evidence lower bound of one view's embedding given the other's, in polar coordinates; no projection head.

    With :math:`h_v = f(x_v)`, the target :math:`t = \operatorname{sg} h_g = r u`, :math:`|u| = 1`, and the inference
    network's :math:`q(z | h_v) = N(m_v, \operatorname{diag} v_v)`,

    .. math:: \mathrm{ELBO}(v \to g) = \mathbb E_{q(z|h_v)} \big[ \log p(u | z, h_v) + \log p(r | z) \big]
              - \beta\, \mathrm{KL}\big(q(z | h_v) \,\big\|\, N(0, I)\big), \qquad
              \mathcal L = -\frac1d \frac{1}{|P|} \sum_{(g, v) \in P} \frac1n \sum_i \mathrm{ELBO}_i(v \to g)

    over the pairs of a global view g and any other view v (two views: both directions), the expectation by
    reparametrised samples. With a discrepancy, :math:`(1 - w) \mathcal L + w \frac1V \sum_v D(h_v/|h_v|)`; one of
    Euclidean space (SIGReg) takes :math:`h_v` itself, which is in the units of the standard normal law.

    There are two directional factors. ``"student"``: the Student-t of R^d about :math:`z/|z|` with diagonal scale, at
    the unit target, divided by the constant K that makes its mass on the sphere at most 1 for every mean and every
    scale of at least ``unit * sigma_min`` (:func:`~isosphere.methods.vje.log_subdensity_constant`). ``"cauchy"``: the
    spherical Cauchy law about :math:`z/|z|`, exactly normalised, ``rho`` fixed. The radial factor is a scalar Student-t
    of :math:`\log r` about :math:`\log |z|`.

    The bound is one of the log density of the target with respect to :math:`dS(u)\, d(\log r)`
    (surface measure; a sub-density with ``"student"``), given :math:`h_v`, with N(0, I) as the prior of z. In the space
    of h subtract :math:`d \log r`: constant in training, where the target is fixed, but it changes rankings of images.

    *Tied variances* (an inference network with two outputs): the scale of the Student-t is the posterior's
    :math:`\sqrt{v_i}` in the units of a direction, :math:`\sqrt{v_i/d}`. Then every :math:`\log v_i` cancels between
    likelihood and entropy, and at ``kl_weight`` 1 minus the ELBO is

    .. math:: \tfrac{\nu + d}{2} \log\Big(1 + \tfrac d\nu \sum_i \tfrac{e_i^2}{v_i}\Big) + \tfrac12 \sum_i (v_i + m_i^2)
              - \log p(r | z) + \text{const}, \qquad e = u - z/|z| :

    v follows the error, and the loss itself would reward collapse. The stopped gradient and the inference network as
    predictor are what prevents it, unless a discrepancy does: without batch norm it was not seen to collapse, without
    the stopped gradient its embeddings close up (docs/compared.md).

    *Independent features* (``"student-product"``): a product of univariate t's in place of the multivariate one, with a
    K of its own. There each feature has its cost,

    .. math:: \tfrac{\nu + 1}{2} \sum_i \log\Big(1 + \tfrac d\nu \tfrac{e_i^2}{v_i}\Big),

    so that degrees of freedom weigh features; at the default unit the multivariate law weighs all features of an image
    alike, and nu << d makes no difference.

    Args:
        encoder: ``(n, c, h, w) -> (n, d)``.
        head: :class:`~isosphere.models.InferenceNetwork` of d dimensions; two outputs tie the variances, three untie
            them.
        standardise: batch norm without scale and shift on the encoder's output, which makes h: the embedding then is
            in the units of the prior, and not confined to the positive orthant where ReLU and pooling leave it. On
            photographs, without a regulariser, features keep more of their directions without any batch norm; textures
            collapse then (docs/decisions.md).
        directional: the directional factor.
        degrees_of_freedom: of the Student-t (5); ``math.inf``: Gaussian.
        sigma_min: the least scale of the Student-t in the units of z (.01).
        unit: of the Student-t: its scale is so many times one in the units of z (1/sqrt(d)).
        rho: of the Cauchy law (.8).
        radial, radial_degrees_of_freedom, radial_scale: the radial factor, or none.
        kl_weight: beta; 1 is the bound.
        samples: of z per view and step.
        stop_gradient: whether the target is held fixed.
        regulariser: D and w, or none.
        global_views: how many of the views, the first ones, are targets.
        seed: of the samples' own generator.

    Scale:
        The total is in nats per dimension, the parts are in nats per image.
    Parts:
        ``directional`` and ``radial``, the expected log densities (more is better; a density may exceed 1), ``kl``, and
        ``regulariser``.
    State:
        ``draw``: how many times the samples moved; call ``after_step`` once a step.
    Reference:
        Oji and Fieguth, Joint Embedding Variational Bayes, 2602.05639: after its abstract. The full text was not to be
        had: factors, constants, scales and standardisation are this library's own.

    Example:
        >>> from isosphere.models import InferenceNetwork
        >>> method = VJE(torch.nn.Linear(12, 8), InferenceNetwork(8, 16))
        >>> sorted(method([torch.randn(16, 12), torch.randn(16, 12)]).parts)
        ['directional', 'kl', 'radial']
    """

    space = "sphere"
    spread_form = "vje+mmd"
    draw: Tensor
    head: InferenceNetwork  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        encoder: nn.Module,
        head: InferenceNetwork,
        *,
        standardise: bool = True,
        directional: Directional = "student",
        degrees_of_freedom: float | None = None,
        sigma_min: float | None = None,
        unit: float | None = None,
        rho: float | None = None,
        radial: bool = True,
        radial_degrees_of_freedom: float = 5.0,
        radial_scale: float = 0.2,
        kl_weight: float = 1.0,
        samples: int = 1,
        stop_gradient: bool = True,
        regulariser: Regulariser | None = None,
        global_views: int = 2,
        seed: int = 0,
    ):
        super().__init__(encoder, head, global_views)
        if not kl_weight >= 0 or samples < 1:
            raise ValueError(
                f"got kl_weight={kl_weight}, samples={samples}, expected a number of at least 0 and at least 1 sample"
            )
        dim = head.in_dim
        self.factor = directional_factor(
            directional,
            dim,
            degrees_of_freedom=degrees_of_freedom,
            sigma_min=sigma_min,
            unit=unit,
            rho=rho,
        )
        if head.outputs not in ((2, 3) if self.factor.floor is not None else (2,)):
            raise ValueError(
                f"got an inference network with {head.outputs} outputs, expected 2 (mean, log variance)"
                + (" or 3 (untied scale)" if self.factor.floor is not None else ": this factor has no scale")
            )
        self.radius = RadialFactor(radial_degrees_of_freedom, radial_scale) if radial else None
        self.standardise = nn.BatchNorm1d(dim, affine=False) if standardise else nn.Identity()
        self.kl_weight, self.samples, self.stop_gradient = kl_weight, samples, stop_gradient
        self.regulariser, self.seed = regulariser, seed
        self.register_buffer("draw", torch.zeros((), dtype=torch.int64))
        self._draw = 0  # the same number, where reading it does not wait for a device

    @method("vje", paper=_PAPER, summary="variational bound of the other view, Student-t")
    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        dim: int | None = None,
        hidden: int = 1024,
        tied: bool = True,
        batch_norm: bool = True,
        regulariser: Discrepant | None = None,
        weight: float | None = None,
        **options: Any,
    ) -> "VJE":
        """Its only network beside the encoder; raises ValueError for another dimension than the encoder's."""
        if dim not in (None, encoder.feature_dim):
            raise ValueError(
                f"got dim={dim}, expected {encoder.feature_dim} or nothing: there is no projection head, the embedding "
                "has the dimension of the encoder's features"
            )
        outputs, held = 2 if tied else 3, Regulariser.of(regulariser, encoder.feature_dim, weight)
        head = InferenceNetwork(encoder.feature_dim, hidden, outputs=outputs, batch_norm=batch_norm)
        return cls(encoder, head, regulariser=held, **options)

    def _network(self, x: Tensor) -> Tensor:
        """The embedding and the inference network's outputs about it, one after the other."""
        h = self.standardise(self.encoder(x))
        return torch.cat([h, self.head(h)], -1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Posterior]:
        h, *parameters = wide(outputs).split(outputs.shape[-1] // (1 + self.head.outputs), -1)
        return h, Posterior.of(parameters, self.factor.floor, self.factor.unit)

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        return (self._raw(views),)

    def loss(self, joined: Tensor) -> Loss:
        """The loss of embeddings and the inference network's outputs, one after the other: ``(views, n, .)``."""
        with full_precision(joined.device):
            return self.bound(*self._split(joined))

    def bound(self, h: Tensor, posterior: Posterior) -> Loss:
        """The loss of embeddings ``(views, n, d)`` and the posteriors about them."""
        counts = row_counts(h.shape[1], h.device, self.group)
        n = sum(counts)
        z = posterior.sample(self._noise(h, counts))
        spread = self.discrepancy is not None and self.discrepancy.space == "sphere"
        target = h if spread or not self.stop_gradient else h.detach()
        # Targets and samples one after the other through the same operators, and all pairs of views at once, in the
        # order of the others: of two views it is the targets that change places, which have no gradient.
        directions, logs = polar(torch.cat([target[None], z]))
        (u, centre), (log_r, log_length) = (x.split([1, len(z)]) for x in (directions, logs))
        of_other, of_target = zip(
            *sorted((v, g) for g, v in directed_pairs(self.global_views, len(h))), strict=True
        )
        targets = (entries(x.detach() if self.stop_gradient else x, of_target, 1) for x in (u, log_r))
        target_u, target_log_r = targets
        scale = None if posterior.scale is None else entries(posterior.scale, of_other)
        densities = {"directional": self.factor(target_u, entries(centre, of_other, 1), scale)}
        if self.radius is not None:
            densities["radial"] = self.radius(target_log_r, entries(log_length, of_other, 1))
        kl = entries(diagonal_gaussian_kl(posterior.mean, posterior.log_variance), of_other)
        terms = {**densities, "kl": kl[None].expand(len(z), -1, -1)}
        values = torch.stack(list(terms.values())).flatten(1)
        means = row_mean(values, n * len(z) * len(of_other), self.group)
        signs = [-1.0] * len(densities) + [self.kl_weight]
        total = means @ constant(tuple(sign / h.shape[-1] for sign in signs), h.device, h.dtype)
        parts = dict(zip(terms, means.detach(), strict=True))
        return self._regularised(Loss(total, parts), h, u.squeeze(0) if spread else None)

    def _noise(self, h: Tensor, counts: list[int]) -> Tensor:
        """Standard normal ``(samples, views, n_r, d)``: this rank's rows of what all ranks draw together."""
        start = first_row(counts, self.group)
        rest = self.seed, sum(counts), start, self.samples
        if torch.compiler.is_compiling():
            return _gaussian_operator(h.detach(), self.draw, *rest)
        return _gaussian(h.detach(), self._draw, *rest)

    def after_step(self, progress: float) -> None:
        if self.training:
            self.draw += 1
            self._draw += 1
        super().after_step(progress)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._draw = int(self.draw)

    @torch.no_grad()
    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features ``(n, p)`` and a direction, ``(n, d)`` unit rows.

        With a discrepancy that of the posterior's mean, what the inference network expects of *other* views;
        without one that of h itself: each finds the other view of an image more often there (docs/decisions.md).
        """
        features = self.encoder(x)
        if self.discrepancy is None:
            return features.float(), self._place(self.standardise(features))
        return features.float(), normalize(self.posterior(features).mean)

    @torch.no_grad()
    def posterior(self, features: Tensor) -> Posterior:
        """q(z | h) about each image, from the backbone's features ``(n, p)``. Call in evaluation mode."""
        h = self.standardise(features)
        return self._split(torch.cat([h, self.head(h)], -1))[1]

    def uncertainty(self, features: Tensor) -> Tensor:
        """Mean variance of the posterior over its dimensions, from the backbone's features ``(n, p)`` to ``(n,)``: 1 is
        the prior's, less is more certain. Call in evaluation mode.
        """
        return self.posterior(features).variance.mean(-1)

    @torch.no_grad()
    def scores(self, x: Tensor, *, samples: int = 16, seed: int = 0) -> dict[str, Tensor]:
        """How well each image ``(n, c, h, w)`` explains itself: log densities ``(n,)``, larger for familiar images.

        The target is the image's own embedding. ``elbo``: the bound by ``samples`` of z (the same noise for every
        image, so that neither order nor batch matters); ``elbo-mean``: z at the posterior's mean, which is no
        bound; ``importance``: the importance-weighted bound of these samples; ``directional``, ``radial``: the
        factors at the posterior's mean, ``kl``: minus the divergence, ``variance``: minus :meth:`uncertainty`, no log
        density. All others with respect to dS(u) d(log r); those
        that depend on r also as ``...|h``, less ``d log r``: densities of h itself. Call in evaluation mode.
        """
        outputs = self._network(x)
        with full_precision(outputs.device):
            h, posterior = self._split(outputs)
            generator = torch.Generator().manual_seed(mixed_seed(seed, 0))
            noise = torch.randn(samples, 1, h.shape[-1], generator=generator).to(h.device, h.dtype)
            return evidence_scores(h, posterior, self.factor, self.radius, noise)

    def _pull(self, n: int, views: int) -> Pull:
        # With the target fixed, the two directions pull half as much as a cost of both views; and the inference network
        # stands between target and encoder.
        slope = self.factor.slope * (0.5 if self.stop_gradient else 1.0) * _PASSED
        return Pull(n, views, slope, self.space)

    @property
    def least_steps(self) -> int:
        return SLOW_START if self.discrepancy is None else 0

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        tied = self.factor.floor is not None and self.head.outputs == 2
        facts = {
            "directional factor": str(self.factor) + (", variances tied to the posterior's" if tied else ""),
            "radial factor": "none" if self.radius is None else str(self.radius),
            "dimension": f"{self.head.in_dim}, the encoder's: there is no projection head",
            "expansion ratio": "none: a predictor and a stopped gradient, not a slope, keep it from collapse",
        }
        return facts | self._regulariser_facts()


for _name, _summary, _options in (
    ("vje-cauchy", "VJE with a normalised spherical Cauchy factor", {}),
    ("vje+mmd", "VJE with the MMD of its directions", {"regulariser": "mmd-heat", "open": ("regulariser",)}),
):
    alias(_name, "vje", paper="isosphere", summary=_summary, directional="cauchy", **_options)
