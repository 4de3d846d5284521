"""Image encoders without labels, by uniformity on the unit sphere.

``run = isosphere.train("PICTURES", out="runs/a")``, for photographs ``isosphere.adapt``, ``isosphere.load("runs/a")``,
then ``run.evaluate``, ``embed``, ``search``, ``dedup``, ``export`` and ``report``.

The folders are the argument: ``sphere`` (the space), ``kernels`` (functions on it), ``reductions`` (how to sum
them), ``discrepancies`` (what they test), ``methods`` (how to learn), ``evaluation`` (how to judge), ``deploy``
(how to use), ``workflows`` (all of it at once). Importing this package loads nothing heavy.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isosphere.workflows import (
        Evaluation,
        FeatureAdapter,
        Run,
        RunTransformer,
        adapt,
        bundle,
        compare,
        evaluate,
        fit_adaptation,
        load,
        probe,
        refit,
        train,
        update,
        views,
    )

try:
    __version__ = version("isosphere")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.0.0"

__all__ = [
    "Evaluation",
    "FeatureAdapter",
    "Run",
    "RunTransformer",
    "__version__",
    "adapt",
    "bundle",
    "compare",
    "evaluate",
    "fit_adaptation",
    "load",
    "probe",
    "refit",
    "train",
    "update",
    "views",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'isosphere' has no attribute {name!r}")
    from isosphere import workflows

    return getattr(workflows, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
