"""What is tested: how far a sample is from the uniform law, exact and calibrated."""

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._energy import (
    HypersphericalEnergy,
    layer_weights,
    network_energy,
    neurons,
    sum_over_layers,
)
from isosphere.discrepancies._gaussian import GaussianKSD, GaussianMMD
from isosphere.discrepancies._kl import KL
from isosphere.discrepancies._koleo import KoLeo
from isosphere.discrepancies._mixture import Mixture
from isosphere.discrepancies._mmd import KSD, MMD
from isosphere.discrepancies._moments import Bingham, Rayleigh
from isosphere.discrepancies._named import DISCREPANCIES, build_discrepancy
from isosphere.discrepancies._null import NullMoments
from isosphere.discrepancies._sliced import SIGReg, SUSReg
from isosphere.discrepancies._two_sample import TwoSample, two_sample_mmd
from isosphere.discrepancies._uniformity import Uniformity
from isosphere.discrepancies._visreg import VISReg

__all__ = [
    "DISCREPANCIES",
    "KL",
    "KSD",
    "MMD",
    "Bingham",
    "Discrepancy",
    "GaussianKSD",
    "GaussianMMD",
    "HypersphericalEnergy",
    "KoLeo",
    "Mixture",
    "NullMoments",
    "Rayleigh",
    "SIGReg",
    "SUSReg",
    "TwoSample",
    "Uniformity",
    "VISReg",
    "build_discrepancy",
    "layer_weights",
    "network_energy",
    "neurons",
    "sum_over_layers",
    "two_sample_mmd",
]
