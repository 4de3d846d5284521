"""Encoders and heads, batch norm over ranks, and frozen features adapted to the images at hand."""

from isosphere.models._adaptation import Adaptation, fit_adaptation
from isosphere.models._batch_norm import RankBatchNorm, synchronise
from isosphere.models._catalogue import FIRST as FIRST_ENCODERS
from isosphere.models._catalogue import EncoderFacts, encoder_facts
from isosphere.models._encoder import (
    Encoder,
    build_encoder,
    encoder_names,
    load_weights,
    require_encoder_name,
)
from isosphere.models._heads import MLPHead, ProjectionHead
from isosphere.models._inference import InferenceNetwork
from isosphere.models._inspection import evaluation_mode
from isosphere.models._layout import memory_format
from isosphere.models._record import EncoderRecord
from isosphere.models._small_conv import SMALL_CONV, SmallConv
from isosphere.models._start import find_start, own_start
from isosphere.models._tokens import class_tokens, layer_blocks

__all__ = [
    "FIRST_ENCODERS",
    "SMALL_CONV",
    "Adaptation",
    "Encoder",
    "EncoderFacts",
    "EncoderRecord",
    "InferenceNetwork",
    "MLPHead",
    "ProjectionHead",
    "RankBatchNorm",
    "SmallConv",
    "build_encoder",
    "class_tokens",
    "encoder_facts",
    "encoder_names",
    "evaluation_mode",
    "find_start",
    "fit_adaptation",
    "layer_blocks",
    "load_weights",
    "memory_format",
    "own_start",
    "require_encoder_name",
    "synchronise",
]
