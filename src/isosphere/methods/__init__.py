"""How to learn: from the views of a batch to a loss."""

from isosphere.methods.base import (
    Loss,
    Method,
    by_size,
    embed_views,
    invariance,
    invariance_slope,
    spread_test,
)
from isosphere.methods.byol import BYOL, teacher_momentum
from isosphere.methods.contrastive import AlignUniform, SimCLR, nt_xent
from isosphere.methods.conventions import weight_of_lambda
from isosphere.methods.deep_jepa import DeepJEPA
from isosphere.methods.jepa import JEPA
from isosphere.methods.momentum import Momentum
from isosphere.methods.named import METHODS, MethodEntry, build_method
from isosphere.methods.network_energy import NetworkEnergy
from isosphere.methods.redundancy import BarlowTwins, VICReg
from isosphere.methods.regulariser import Pull, Regulariser
from isosphere.methods.simsiam import SimSiam
from isosphere.methods.vi_simsiam import VISimSiam
from isosphere.methods.vje import VJE
from isosphere.methods.weighting import (
    balanced_weight,
    expansion_ratio,
    signal_share,
    spread_value,
    weight_of_expansion,
)

__all__ = [
    "BYOL",
    "JEPA",
    "METHODS",
    "VJE",
    "AlignUniform",
    "BarlowTwins",
    "DeepJEPA",
    "Loss",
    "Method",
    "MethodEntry",
    "Momentum",
    "NetworkEnergy",
    "Pull",
    "Regulariser",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "VISimSiam",
    "balanced_weight",
    "build_method",
    "by_size",
    "embed_views",
    "expansion_ratio",
    "invariance",
    "invariance_slope",
    "nt_xent",
    "signal_share",
    "spread_test",
    "spread_value",
    "teacher_momentum",
    "weight_of_expansion",
    "weight_of_lambda",
]
