"""A run is a folder: its files and how they are read."""

from isosphere.runs._environment import environment
from isosphere.runs._folder import RunFolder
from isosphere.runs._metrics import MetricsFile, read_metrics

__all__ = [
    "MetricsFile",
    "RunFolder",
    "environment",
    "read_metrics",
]
