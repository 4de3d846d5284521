"""Hyperspherical energy of a network's weights, as a regulariser."""

__all__ = ["NetworkEnergy", "gradient_norm_ratio"]

import math

import torch
from torch import Tensor, nn

from isosphere.discrepancies import HypersphericalEnergy, layer_weights, network_energy, neurons
from isosphere.reductions import Group, all_reduce, in_float64, world_size


class NetworkEnergy(nn.Module):
    r"""How far the neurons of each layer are from being spread like uniform points.

    .. math:: \sum_l \alpha_l \Big[ E_s\big(\hat w^{(l)}_1, \dots, \hat w^{(l)}_{N_l}\big) - \mathbb E\, E_s \Big]

    with :math:`E_s` of :class:`~isosphere.discrepancies.HypersphericalEnergy` over the normalised weight vectors of
    the linear and convolution layers (normalisation parameters and biases excluded) and its expectation for uniform
    points; for a layer whose expectation is infinite (s >= d - 1), its energy at the start instead.

    Args:
        network: whose layers and start are meant; it is not kept.
        power: s, 0 (logarithmic), 1, 2. half_space: let a neuron and its opposite repel too.
        hidden_weight, output_weight: the :math:`\alpha_l` of all layers but the last, and of the last one.
        weight: w_e, of the term; None: such that at the first step its gradient is ``ratio`` (1 unless given) times as
            long as the rest of the loss's, over all weights.

    ``energy(loss, network, group)`` gives the total :math:`\mathcal L + w_e E` and the excess E, about 0 at random
    initialisation. *State*: ``expected``, and ``weight`` (nan until it is found).
    *Reference.* Liu et al., 1805.09298, equation 5; for BYOL 2105.00925.
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
        self.power, self.half_space = power, half_space
        self.hidden_weight, self.output_weight = hidden_weight, output_weight
        self.ratio = 1.0 if ratio is None else ratio
        self._found = False  # whether the weight is known to be found, so that no step has to look
        self.register_buffer("weight", torch.tensor(math.nan if weight is None else weight))
        self.register_buffer("expected", torch.zeros(()))
        self.expected.fill_(self._expectation(network))

    @torch.no_grad()
    def _expectation(self, network: nn.Module) -> float:
        layers = [weight.flatten(1) for weight in neurons(network)]
        scales = layer_weights(len(layers), self.hidden_weight, self.output_weight)
        total = 0.0
        for weight, scale in zip(layers, scales, strict=True):
            energy = HypersphericalEnergy(self.power, self.half_space, dim=weight.shape[1], group=False)
            mean = energy.null(len(weight)).mean
            total += scale * (mean if math.isfinite(mean) else energy(weight).item())
        return total

    def forward(self, loss: Tensor, network: nn.Module, group: Group = None) -> tuple[Tensor, Tensor]:
        excess = self.excess(network)
        if not self._found:
            if self.weight.isnan():
                if not torch.is_grad_enabled():  # the weight is found at the first step, and this is none
                    return loss, excess
                self.weight.fill_(self.ratio * gradient_norm_ratio(loss, excess, network, group))
            self._found = True
        return loss + self.weight * excess, excess

    def excess(self, network: nn.Module) -> Tensor:
        """E, a scalar."""
        energy = network_energy(
            network,
            self.power,
            self.half_space,
            hidden_weight=self.hidden_weight,
            output_weight=self.output_weight,
        )
        return energy - self.expected

    def describe(self) -> str:
        """What it is and what it weighs, in words."""
        return f"of the weights, {self.extra_repr()}, " + (
            f"its gradient {self.ratio:g} of the loss's at the first step"
            if self.weight.isnan()
            else f"weight {self.weight.item():.4g}"
        )

    def extra_repr(self) -> str:
        return f"power={self.power:g}, half_space={self.half_space}"


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
