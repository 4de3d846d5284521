"""How to learn: from the views of a batch to a loss."""

from importlib import import_module
from pkgutil import iter_modules

from isosphere.methods._align_uniform import AlignUniform
from isosphere.methods._barlow_twins import BarlowTwins
from isosphere.methods._base import (
    Loss,
    Method,
    Regularised,
    by_size,
    embed_views,
    invariance,
    invariance_slope,
    spread_test,
)
from isosphere.methods._byol import BYOL, teacher_momentum
from isosphere.methods._conventions import weight_of_lambda
from isosphere.methods._distillation import DISTILLATION, Distillation, distillation_targets
from isosphere.methods._frozen import FROZEN, Frozen
from isosphere.methods._jepa import JEPA, DeepJEPA
from isosphere.methods._momentum import Momentum
from isosphere.methods._network_energy import NetworkEnergy
from isosphere.methods._registry import (
    METHODS,
    MethodEntry,
    alias,
    build_method,
    check_options,
    method,
    option_names,
)
from isosphere.methods._regulariser import Pull, Regulariser
from isosphere.methods._simclr import Contrastive, SimCLR, nt_xent
from isosphere.methods._simsiam import SimSiam
from isosphere.methods._vi_simsiam import VISimSiam
from isosphere.methods._vicreg import VICReg
from isosphere.methods._weighting import (
    balanced_weight,
    expansion_ratio,
    signal_share,
    spread_value,
    weight_of_expansion,
)
from isosphere.methods.vje import VJE

for _found in iter_modules(__path__):  # a method is registered where its class stands: no list to extend
    import_module(f"{__name__}.{_found.name}")

__all__ = [
    "BYOL",
    "DISTILLATION",
    "FROZEN",
    "JEPA",
    "METHODS",
    "VJE",
    "AlignUniform",
    "BarlowTwins",
    "Contrastive",
    "DeepJEPA",
    "Distillation",
    "Frozen",
    "Loss",
    "Method",
    "MethodEntry",
    "Momentum",
    "NetworkEnergy",
    "Pull",
    "Regularised",
    "Regulariser",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "VISimSiam",
    "alias",
    "balanced_weight",
    "build_method",
    "by_size",
    "check_options",
    "distillation_targets",
    "embed_views",
    "expansion_ratio",
    "invariance",
    "invariance_slope",
    "method",
    "nt_xent",
    "option_names",
    "signal_share",
    "spread_test",
    "spread_value",
    "teacher_momentum",
    "weight_of_expansion",
    "weight_of_lambda",
]
