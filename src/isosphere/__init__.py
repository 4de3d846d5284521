"""Image encoders without labels, by uniformity on the unit sphere.

The folders are the argument: ``sphere`` (the space), ``kernels`` (functions on it), ``reductions`` (how to sum
them), ``discrepancies`` (what they test), ``methods`` (how to learn), ``evaluation`` (how to judge).
Importing this package loads nothing heavy; import the folder that you need.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("isosphere")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
