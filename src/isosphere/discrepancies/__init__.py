"""What is tested: how far a sample is from the uniform law, exact and calibrated."""

from isosphere.discrepancies.base import Discrepancy, NullMoments
from isosphere.discrepancies.kl import KL
from isosphere.discrepancies.mmd import KSD, MMD
from isosphere.discrepancies.named import DISCREPANCIES, build_discrepancy
from isosphere.discrepancies.sliced import SIGReg, SUSReg

__all__ = [
    "DISCREPANCIES",
    "KL",
    "KSD",
    "MMD",
    "Discrepancy",
    "NullMoments",
    "SIGReg",
    "SUSReg",
    "build_discrepancy",
]
