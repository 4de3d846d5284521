"""Encoders and heads."""

from isosphere.models.encoder import Encoder, build_encoder, encoder_names, load_weights
from isosphere.models.heads import MLPHead, ProjectionHead
from isosphere.models.inference import InferenceNetwork
from isosphere.models.small_conv import SmallConv

__all__ = [
    "Encoder",
    "InferenceNetwork",
    "MLPHead",
    "ProjectionHead",
    "SmallConv",
    "build_encoder",
    "encoder_names",
    "load_weights",
]
