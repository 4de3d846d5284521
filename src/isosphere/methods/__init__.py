"""How to learn: from the views of a batch to a loss."""

from isosphere.methods.base import Loss, Method, embed_views, invariance, invariance_slope
from isosphere.methods.jepa import JEPA
from isosphere.methods.momentum import Momentum
from isosphere.methods.named import METHODS, MethodEntry, build_method
from isosphere.methods.weighting import balanced_weight, expansion_ratio, spread_value, weight_of_expansion

__all__ = [
    "JEPA",
    "METHODS",
    "Loss",
    "Method",
    "MethodEntry",
    "Momentum",
    "balanced_weight",
    "build_method",
    "embed_views",
    "expansion_ratio",
    "invariance",
    "invariance_slope",
    "spread_value",
    "weight_of_expansion",
]
