"""Functions of the cosine ``c = <x, y>``, each known by its spectrum.

Every kernel is a frozen value with ``kernel(1) = 1`` and nonnegative weights that sum to 1. An MMD, a KSD and
a sliced statistic (in the mean over directions) differ only in these weights.
"""

from isosphere.kernels._bandlimited import BandlimitedKernel
from isosphere.kernels._heat import HeatKernel
from isosphere.kernels._induced import InducedKernel
from isosphere.kernels._positive import FejerKernel, JacksonKernel
from isosphere.kernels._quadrature_rule import QuadratureRuleKernel
from isosphere.kernels._stein import SteinKernel, stein
from isosphere.kernels._von_mises_fisher import VonMisesFisherKernel
from isosphere.kernels._window import GaussianWindowKernel
from isosphere.kernels._zonal import ZonalKernel

__all__ = [
    "BandlimitedKernel",
    "FejerKernel",
    "GaussianWindowKernel",
    "HeatKernel",
    "InducedKernel",
    "JacksonKernel",
    "QuadratureRuleKernel",
    "SteinKernel",
    "VonMisesFisherKernel",
    "ZonalKernel",
    "stein",
]
