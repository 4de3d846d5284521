"""The commands by their names, in the order of the help."""

from collections.abc import Callable

from isosphere.cli import (
    adapt,
    bundle,
    cluster,
    compare,
    dedup,
    doctor,
    embed,
    evaluate,
    export,
    list_,
    outliers,
    probe,
    report,
    search,
    select,
    serve,
    train,
    update,
    views,
)
from isosphere.cli.explore import explore

__all__ = ["COMMANDS", "LIGHT", "SHARED"]

COMMANDS: dict[str, Callable[..., int | None]] = {
    "adapt": adapt.adapt,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "search": search.search,
    "explore": explore,
    "report": report.report,
    "views": views.views,
    "dedup": dedup.dedup,
    "outliers": outliers.outliers,
    "select": select.select,
    "cluster": cluster.cluster,
    "probe": probe.probe,
    "compare": compare.compare,
    "embed": embed.embed,
    "export": export.export,
    "bundle": bundle.bundle,
    "serve": serve.serve,
    "update": update.update,
    "list": list_.list_,
    "doctor": doctor.doctor,
}
SHARED = ("train", "evaluate")
"""Commands that several processes work at together."""
LIGHT = ("list",)
"""Commands that need little, and take it when they know what."""
