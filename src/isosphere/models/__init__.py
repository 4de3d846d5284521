"""Encoders and heads, and batch norm over ranks."""

from isosphere.models.batch_norm import RankBatchNorm, synchronise
from isosphere.models.encoder import Encoder, build_encoder, encoder_names, load_weights
from isosphere.models.heads import MLPHead, ProjectionHead
from isosphere.models.inference import InferenceNetwork
from isosphere.models.inspection import evaluation_mode
from isosphere.models.small_conv import SmallConv
from isosphere.models.tokens import class_tokens, layer_blocks

__all__ = [
    "Encoder",
    "InferenceNetwork",
    "MLPHead",
    "ProjectionHead",
    "RankBatchNorm",
    "SmallConv",
    "build_encoder",
    "class_tokens",
    "encoder_names",
    "evaluation_mode",
    "layer_blocks",
    "load_weights",
    "synchronise",
]
