"""Image encoders without labels, by uniformity on the unit sphere.

The folders are the argument: ``sphere`` (the space), ``kernels`` (functions on it), ``reductions`` (how to sum
them), ``discrepancies`` (what they test), ``methods`` (how to learn), ``evaluation`` (how to judge), ``deploy``
(how to use). Importing this package loads nothing heavy; import the folder that you need, or :func:`load` a run.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

    from isosphere.deploy import Run

try:
    __version__ = version("isosphere")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.0.0"

__all__ = ["__version__", "load"]


def load(path: "str | Path", *, device: str | None = None, cache: bool = True) -> "Run":
    """A trained run, to be applied: ``load("runs/a").embed(images)``, ``.search(images, "PICTURES/")``.

    Args:
        path: the folder that was given to ``isosphere train --out``.
        device: where to compute; a GPU if torch has one.
        cache: keep the features of whole sets of images in the run's folder, and take those that
            ``isosphere evaluate`` or an earlier call has left there.

    Raises: isosphere.errors.UsageError if `path` is no run; RunError if its files are damaged.
    """
    # Training knows how to rebuild a method, deploy how to use it, and neither knows the other.
    import torch

    from isosphere.deploy import Run
    from isosphere.evaluation import FeatureCache, ViewMetric
    from isosphere.models import Encoder
    from isosphere.runs import RunFolder
    from isosphere.training import load_method

    folder = RunFolder.open(path)
    config, method = load_method(folder)
    method.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = config.data.image_size or 32
    return Run(
        folder,
        method.embed,
        cast(Encoder, method.encoder),
        size,
        config.data.canvas_size or size,
        tuple(part.model_dump(mode="json") for part in (config.model, config.method)),
        cache=FeatureCache(folder.path / "features") if cache else None,
        metric=ViewMetric.of_run(folder),
    )
