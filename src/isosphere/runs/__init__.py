"""A run is a folder: its files and how they are read."""

from isosphere.runs._environment import changed_since, environment
from isosphere.runs._folder import RunFolder
from isosphere.runs._metrics import MetricsFile, read_metrics
from isosphere.runs._tensors import pack_tensors, read_tensors, tensor_identity, tensors_identity

__all__ = [
    "MetricsFile",
    "RunFolder",
    "changed_since",
    "environment",
    "pack_tensors",
    "read_metrics",
    "read_tensors",
    "tensor_identity",
    "tensors_identity",
]
