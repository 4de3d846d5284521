"""A run is a folder: its files, how they are written so that nothing is ever half there, and how they are
read.
"""

from isosphere.atomic import atomic_file, write_bytes, write_json, write_text
from isosphere.runs._environment import environment
from isosphere.runs._folder import RunFolder
from isosphere.runs._metrics import MetricsFile, read_metrics

__all__ = [
    "MetricsFile",
    "RunFolder",
    "atomic_file",
    "environment",
    "read_metrics",
    "write_bytes",
    "write_json",
    "write_text",
]
