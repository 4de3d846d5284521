"""Hyperspherical energies, of embeddings and of a network's weights."""

__all__ = ["HypersphericalEnergy", "layer_weights", "network_energy", "neurons", "sum_over_layers"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._null import NullMoments
from isosphere.reductions import (
    Group,
    PairFunction,
    cosine_pair_means,
    double_on_cpu,
    pair_mean,
    together,
)
from isosphere.sphere import normalize

_CLOSEST = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Squared distance below which a pair has no gradient: 2 - 2c cancels to about ten roundings there."""


def _potential(power: float, half_space: bool) -> PairFunction:
    """|x - y|^-power (power 0: -log |x - y|) as a function of c, and its derivatives."""

    def one(c: Tensor, order: int) -> Tensor:
        square, closest = 2 - 2 * c, _CLOSEST[c.dtype]
        if order == 0:
            close = square.clamp(min=closest)
            return -close.log() / 2 if power == 0 else close.pow(-power / 2)
        factor = math.prod(power + 2 * k if power or k else 1 for k in range(order))
        return torch.where(square > closest, factor * square.pow(-power / 2 - order), 0)

    def both(c: Tensor, order: int) -> Tensor:
        return (one(c, order) + (-1) ** order * one(-c, order)) / 2

    return both if half_space else one


class HypersphericalEnergy(Discrepancy):
    r"""Riesz energy: the mean over ordered pairs i != j of an inverse power of their distance.

    .. math:: E_s = \frac{1}{n(n-1)} \sum_{i \ne j} |z_i - z_j|^{-s}, \qquad
              E_0 = \frac{1}{n(n-1)} \sum_{i \ne j} -\log |z_i - z_j|

    Args:
        power: s; 0 is logarithmic.
        half_space: adds the antipodes, the mean over the 4n(n-1) pairs of :math:`\pm z_i, \pm z_j`, i != j, so that a
            point and its opposite repel too.
        dim: ambient dimension d; None: any.
        group: the ranks whose rows are the sample.

    Scale:
        Smallest when spread; for a uniform population :math:`2^{-s} \Gamma(\frac{d-1-s}{2}) \Gamma(d-1) /
        (\Gamma(\frac{d-1}{2}) \Gamma(d-1-\frac s2))` for s < d - 1, else infinite; s = 0: :math:`\frac12[\psi(d-1) -
        \psi(\frac{d-1}{2})] - \log 2`. Unbounded at collapse (here 1e6^s, in float32 1e3^s, at coincident rows, whose
        gradient is zero).
    Shape:
        ``(*views, n, d)``, rows normalised inside, to ``(*views,)``.
    Raises:
        ValueError: a negative power, fewer than two rows.
    Numerics:
        In float64 on a CPU, because 2 - 2c loses close pairs in float32. On a GPU, where float64 is slow, in the type
        of z: in float32 a term at distance r is known to :math:`s \cdot 10^{-7} / r^2`, and rows closer than 1e-3 count
        as coincident.
    Reference:
        Liu et al., 1805.09298 (MHE; its s = 0 is twice this); 2105.00925.

    Example:
        >>> round(HypersphericalEnergy(2)(torch.eye(4)).item(), 4)  # every squared distance is 2
        0.5
    """

    self_pairs = False

    def __init__(
        self, power: float = 2, half_space: bool = False, *, dim: int | None = None, group: Group = None
    ):
        super().__init__(dim, group=group)
        if power < 0:
            raise ValueError(f"got power={power}, expected 0 (logarithmic), 1, 2 or another positive number")
        self.power, self.half_space = power, half_space

    def _statistic(self, z: Tensor) -> Tensor:
        function = _potential(self.power, self.half_space)
        return pair_mean(normalize(double_on_cpu(z)), function, diagonal=False, group=self.group).to(z)

    def of_samples(self, samples: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """The weighted sum of the energies of samples ``(n_l, d_l)`` that every rank has all of, computed together."""
        return cosine_pair_means(samples, _potential(self.power, self.half_space), weights)

    def reference(self, z: Tensor) -> Tensor:
        n, z = z.shape[-2], normalize(z)
        squares = [(z.unsqueeze(-2) - sign * z.unsqueeze(-3)).square().sum(-1) for sign in (1, -1)]
        near = torch.stack(squares[: 1 + self.half_space]).masked_fill(torch.eye(n, device=z.device) > 0, 1)
        near = near.clamp(min=_CLOSEST[torch.float64])
        values = -near.log() / 2 if self.power == 0 else near ** (-self.power / 2)
        return (values.mean(0).sum((-2, -1)) - n * (self.power != 0)) / (n * (n - 1))

    def null(self, n: int) -> NullMoments:
        """Exact: the pairs of uniform points are uncorrelated. Infinite where the moment is (2 s >= d - 1: the std)."""
        self._check_null(n)
        mean, variance = _pair_moments(self.power, self.half_space, self.dim)
        return NullMoments(mean, (2 * variance / (n * (n - 1))) ** 0.5)

    def slope(self, n: int) -> float:
        return math.inf

    def extra_repr(self) -> str:
        return f"power={self.power:g}, half_space={self.half_space}"


def _beta_power(a: float, b: float, exponent: float) -> float:
    """E B^exponent for B ~ Beta(a, b); inf where it does not exist."""
    if a + exponent <= 0:
        return math.inf
    return math.exp(
        math.lgamma(a + exponent) - math.lgamma(a) + math.lgamma(a + b) - math.lgamma(a + b + exponent)
    )


def _beta_log(a: float, b: float) -> tuple[float, float]:
    """Mean and variance of log B for B ~ Beta(a, b)."""
    a_, s_ = (torch.tensor(x, dtype=torch.float64) for x in (a, a + b))
    mean = torch.special.digamma(a_) - torch.special.digamma(s_)
    return mean.item(), (torch.special.polygamma(1, a_) - torch.special.polygamma(1, s_)).item()


def _pair_moments(power: float, half_space: bool, dim: int) -> tuple[float, float]:
    """Mean and variance of one pair's potential: |x - y|^2 / 4 ~ Beta(h, h), 1 - c^2 ~ Beta(h, 1/2), h = (d - 1)/2."""
    h = (dim - 1) / 2
    if power == 0:
        mean_log, var_log = _beta_log(h, h)
        if half_space:
            return -math.log(2) - mean_log / 2, _beta_log(h, 0.5)[1] / 16
        return -math.log(2) - mean_log / 2, var_log / 4
    mean = 2**-power * _beta_power(h, h, -power / 2)
    square = 4**-power * _beta_power(h, h, -power)
    if half_space:  # (f(c) + f(-c))/2: the product of the two distances is 2 sqrt(1 - c^2)
        square = (square + 2**-power * _beta_power(h, 0.5, -power / 2)) / 2
    return mean, (square - mean * mean if math.isfinite(square) else math.inf)


def neurons(network: nn.Module) -> list[Tensor]:
    """Weights of the linear and convolution layers of two or more neurons: what the energy is about."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [m.weight for m in network.modules() if isinstance(m, kinds) and len(m.weight) > 1]


def layer_weights(layers: int, hidden: float, output: float) -> list[float]:
    """The weight of each layer's energy: ``output`` for the last, ``hidden`` for the others."""
    return [hidden] * (layers - 1) + [output]


def network_energy(
    module: nn.Module,
    power: float = 0,
    half_space: bool = False,
    *,
    hidden_weight: float = 1.0,
    output_weight: float = 1.0,
) -> Tensor:
    r"""Hyperspherical energy of a network's weights: the sum over its layers of the mean over pairs of neurons.

    .. math:: \sum_l \alpha_l\, E_s\big(\hat w^{(l)}_1, \dots, \hat w^{(l)}_{N_l}\big)

    Each convolution filter or row of a linear layer, flattened and normalised, is one point; biases and
    normalisation parameters (one-dimensional) do not count, nor do layers of one neuron.

    Args:
        module: the network.
        power: s of :class:`HypersphericalEnergy`.
        half_space: of :class:`HypersphericalEnergy`.
        hidden_weight: of every layer but the last.
        output_weight: of the last layer.

    Returns:
        A scalar, differentiable.
    Raises:
        ValueError: no layer has two neurons.
    Reference:
        Liu et al., 1805.09298, equation 5 (hidden 1, output 10 for classifiers); 2105.00925.
    """
    energy = HypersphericalEnergy(power, half_space, group=False)
    return sum_over_layers(energy, module, hidden_weight, output_weight)


def sum_over_layers(
    energy: HypersphericalEnergy, network: nn.Module, hidden_weight: float, output_weight: float
) -> Tensor:
    """The sum of :func:`network_energy`, by an energy that was built before: a compiler sees a call of it a layer."""
    layers = [weight.flatten(1) for weight in neurons(network)]
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no linear or convolution layer of two or more neurons"
        )
    scales = layer_weights(len(layers), hidden_weight, output_weight)
    energies = []
    for places in together(layers):
        if len(places) == 1:
            energies.append(scales[places[0]] * energy(layers[places[0]]))
        else:
            energies.append(energy.of_samples([layers[k] for k in places], [scales[k] for k in places]))
    return torch.stack(energies).sum()
