"""What is tested: how far a sample is from the uniform law, exact and calibrated."""

from isosphere.discrepancies.base import Discrepancy
from isosphere.discrepancies.energy import HypersphericalEnergy, network_energy
from isosphere.discrepancies.kl import KL
from isosphere.discrepancies.koleo import KoLeo
from isosphere.discrepancies.mixture import Mixture
from isosphere.discrepancies.mmd import KSD, MMD
from isosphere.discrepancies.moments import Bingham, Rayleigh
from isosphere.discrepancies.named import DISCREPANCIES, build_discrepancy
from isosphere.discrepancies.null import NullMoments
from isosphere.discrepancies.sliced import SIGReg, SUSReg
from isosphere.discrepancies.uniformity import Uniformity

__all__ = [
    "DISCREPANCIES",
    "KL",
    "KSD",
    "MMD",
    "Bingham",
    "Discrepancy",
    "HypersphericalEnergy",
    "KoLeo",
    "Mixture",
    "NullMoments",
    "Rayleigh",
    "SIGReg",
    "SUSReg",
    "Uniformity",
    "build_discrepancy",
    "network_energy",
]
