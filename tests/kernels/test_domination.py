"""Condition (U) of Shared Gaussianization (2610.10299, theorem 2): does a spectrum dominate that of InfoNCE's kernel?

The uniformity of InfoNCE at temperature 1/beta is at most a multiple of an MMD if and only if the ratio of the weights
of ``exp(beta c)``, which is the von Mises-Fisher kernel, to those of the MMD's kernel is bounded over the degrees.
"""

import pytest
import torch

from isosphere.discrepancies import SUSReg
from isosphere.kernels import BandlimitedKernel, HeatKernel, InducedKernel, VonMisesFisherKernel, stein

BETA, DIM = 10.0, 8
OTHERS = {
    "heat": (HeatKernel(DIM), False),
    "bandlimited": (BandlimitedKernel(DIM), False),
    "induced, bandwidth^2 = 8": (InducedKernel(DIM), False),
    "induced, bandwidth^2 = 16": (InducedKernel(DIM, bandwidth=4.0), True),
    "SUSReg's own rule": (SUSReg(DIM).kernel(), False),
    "von Mises-Fisher 8": (VonMisesFisherKernel(DIM, 8.0), False),
    "von Mises-Fisher 10": (VonMisesFisherKernel(DIM, 10.0), True),
    "von Mises-Fisher 12": (VonMisesFisherKernel(DIM, 12.0), True),
    "Stein of von Mises-Fisher 10": (stein(VonMisesFisherKernel(DIM, 10.0)), True),
    "Stein of heat": (stein(HeatKernel(DIM)), False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_which_kernels_control_the_uniformity_of_infonce_linearly(name):
    """Over the last third of the degrees that both have, the ratio rises, or falls and stays bounded; a band limit is
    a ratio that is infinite.
    """
    kernel, holds = OTHERS[name]
    ours, theirs = kernel.log_weights(), VonMisesFisherKernel(DIM, BETA).log_weights()
    degrees = min(len(ours), len(theirs))
    if len(ours) <= 3:
        assert not holds
        return
    ratio = (theirs[:degrees] - ours[:degrees])[2 * degrees // 3 :]
    rising = torch.diff(ratio) > 1e-9
    assert rising.all() if not holds else not rising.any()
