"""Hyperspherical energy of a network's weights, as a regulariser."""

__all__ = ["NetworkEnergy", "gradient_norm_ratio"]

import math
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.discrepancies import HypersphericalEnergy, layer_weights, neurons, sum_over_layers
from isosphere.reductions import Group, all_reduce, in_float64, world_size


class NetworkEnergy(nn.Module):
    r"""How far the neurons of each layer are from being spread like uniform points.

    .. math:: E = \sum_l \alpha_l \Big[ E_s\big(\hat w^{(l)}_1, \dots, \hat w^{(l)}_{N_l}\big) - \mathbb E\, E_s \Big]

    with :math:`E_s` of :class:`~isosphere.discrepancies.HypersphericalEnergy` over the normalised weight vectors of
    the linear and convolution layers (normalisation parameters and biases excluded) and its expectation for uniform
    points; for a layer whose expectation is infinite (s >= d - 1), its energy at the start instead. Added to a loss
    as :math:`w_e E`; a weight that is not given is found by :meth:`prepare`, and by nothing else.

    Args:
        network: whose layers and start are meant; it is not kept.
        power: s, 0 (logarithmic), 1, 2.
        half_space: let a neuron and its opposite repel too.
        hidden_weight: the :math:`\alpha_l` of all layers but the last.
        output_weight: that of the last layer.
        weight: :math:`w_e`; None: such that its gradient is ``ratio`` times as long as the rest of the loss's, over all
            weights.
        ratio: 1 unless given.

    Shape:
        ``energy(network)`` is :math:`w_e E` and E, two scalars. E is about 0 at random initialisation.
    State:
        ``weight`` (nan until it is found) and ``expected``.
    Raises:
        ValueError: numbers that can be no weight.
        RuntimeError: a call without a weight.
    Reference:
        Liu et al., 1805.09298, equation 5; for BYOL 2105.00925.

    Example:
        >>> network = torch.nn.Linear(64, 40)
        >>> weighted, excess = NetworkEnergy(network, weight=2.0)(network)
        >>> bool(weighted == 2 * excess), bool(excess.abs() < 0.01)  # random neurons are all but uniform
        (True, True)
    """

    expected: Tensor
    weight: Tensor

    def __init__(
        self,
        network: nn.Module,
        power: float = 2.0,
        half_space: bool = False,
        *,
        hidden_weight: float = 1.0,
        output_weight: float = 1.0,
        weight: float | None = None,
        ratio: float | None = None,
    ):
        super().__init__()
        if weight is not None and not weight > 0:
            raise ValueError(f"got weight_energy={weight}, expected a positive number")
        if ratio is not None and (weight is not None or not ratio > 0):
            raise ValueError(f"got energy_ratio={ratio}, expected a positive number, and no weight_energy")
        if hidden_weight < 0 or output_weight < 0 or hidden_weight + output_weight == 0:
            raise ValueError(
                f"got hidden_weight={hidden_weight}, output_weight={output_weight}, expected numbers of at least 0, "
                "one of them positive"
            )
        self.ratio, self.scales = 1.0 if ratio is None else ratio, (hidden_weight, output_weight)
        # In a tuple, where no group is set: the neurons are no rows of a batch, and every rank has all of them.
        self._of_layer = (HypersphericalEnergy(power, half_space, group=False),)
        self.register_buffer("weight", torch.tensor(math.nan if weight is None else weight))
        self.register_buffer("expected", torch.zeros(()))
        self.expected.fill_(self._expectation(network))
        self._note()

    @torch.no_grad()
    def _expectation(self, network: nn.Module) -> float:
        (energy,), total = self._of_layer, 0.0
        layers = [weight.flatten(1) for weight in neurons(network)]
        for weight, scale in zip(layers, layer_weights(len(layers), *self.scales), strict=True):
            mean = energy.alone(weight.shape[1]).null(len(weight)).mean
            total += scale * (mean if math.isfinite(mean) else energy(weight).item())
        return total

    def prepare(self, loss: Tensor, network: nn.Module, group: Group = None) -> None:
        """Find the weight, unless there is one, from the rest of the loss: a differentiable scalar of ``network``."""
        if not self._ready:
            self.weight.fill_(self.ratio * gradient_norm_ratio(loss, self.excess(network), network, group))
            self._note()

    def forward(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        if not self._ready:
            raise RuntimeError(
                "got no weight of the energy, which is found from a batch before the first step: call "
                "method.prepare(n=..., views=..., batch=[view, view]) or give weight_energy=..."
            )
        excess = self.excess(network)
        return self.weight * excess, excess

    def excess(self, network: nn.Module) -> Tensor:
        """E, a scalar."""
        return sum_over_layers(self._of_layer[0], network, *self.scales) - self.expected

    def describe(self) -> str:
        """What it is and what it weighs, in words."""
        return f"of the weights, {self.extra_repr()}, " + (
            f"weight {self.weight.item():.4g}"
            if self._ready
            else f"its gradient {self.ratio:g} of the loss's on the batch of prepare"
        )

    def extra_repr(self) -> str:
        return self._of_layer[0].extra_repr()

    def _note(self) -> None:
        self._ready = (
            not self.weight.isnan().item()
        )  # the same fact where reading it does not wait for a device

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._note()


def gradient_norm_ratio(loss: Tensor, energy: Tensor, network: nn.Module, group: Group = None) -> float:
    r"""Ratio of the gradients' norms, :math:`|\nabla_W \text{loss}| / |\nabla_W \text{energy}|`, over all neurons.

    ``loss`` is the global value that every rank of ``group`` holds (its gradient is averaged over the ranks, as
    DistributedDataParallel does); ``energy`` depends on the weights alone. 0 where the energy is stationary. Both
    graphs are kept.
    """
    weights = neurons(network)
    pull = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    push = torch.autograd.grad(energy, weights, retain_graph=True)
    local = torch.cat([in_float64(g).flatten() for g in pull if g is not None])
    ours = (all_reduce(local, group) / world_size(group)).norm().item()
    theirs = torch.cat([in_float64(g).flatten() for g in push]).norm().item()
    return ours / theirs if theirs > 0 else 0.0
