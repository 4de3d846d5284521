"""One sitting of a training: what is written beside the loop, and what is said at its end."""

import io
from typing import TYPE_CHECKING, Any, cast

from isosphere.cli.console import commands, counting, facts, paragraph, shell, table
from isosphere.cli.online import online_knn

if TYPE_CHECKING:
    from rich.console import Console

    from isosphere.models import Encoder
    from isosphere.runs import RunFolder
    from isosphere.training import Config, Parts, Summary

__all__ = ["follow", "run_training"]


def follow(folder: "RunFolder", parts: "Parts") -> int:
    """The part of a process that is not the first: it trains along and writes nothing."""
    from isosphere.training import fit

    args = parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric
    return 1 if fit(*args, facts=parts.identity).interrupted else 0


def run_training(console: "Console", folder: "RunFolder", parts: "Parts") -> int:
    """Train into the folder and say what was done and what to type next; the exit code."""
    from isosphere.runs import write_bytes
    from isosphere.training import ConsoleReporter, contact_sheet, fit, require_same_run

    config = parts.config
    if folder.checkpoint.exists():  # a run that is refused keeps its config.yaml
        known = {**parts.identity, "batches per epoch": len(parts.loader), "seed": config.train.seed}
        require_same_run(folder.checkpoint, known)
    folder.write_config(config.as_mapping())
    folder.write_environment()
    if not folder.checkpoint.exists():
        first, picture = next(iter(parts.loader.epoch(0))).images[:8], io.BytesIO()
        contact_sheet(first, parts.views, seed=config.train.seed).save(picture, "PNG")
        write_bytes(folder.path / "views.png", picture.getvalue())
    reporter = ConsoleReporter(console, folder.log)
    online = online_knn(parts)
    if online is not None:
        parts.facts["k-NN"] = online[1]
        facts(console, {"k-NN": online[1]})
    for line in [*(f"{name}: {value}" for name, value in parts.facts.items()), *parts.warnings]:
        reporter.note(line)
    summary = fit(
        config,
        folder,
        parts.method,
        parts.loader,
        parts.views,
        parts.fabric,
        observer=parts.observer,
        probe=None if online is None else online[0],
        ui=reporter,
        facts=parts.identity,
    )
    late = getattr(parts.loader, "skipped", {})
    if late:
        reporter.say(
            f"{len(late)} images could not be read and were passed over: {', '.join(list(late)[:3])}.",
            warning=True,
        )
    if summary.shares is not None:
        _print_shares(console, summary)
    if not summary.interrupted:
        _keep_view_metric(console, folder, parts, summary)
    _close(console, reporter, folder, config, summary)
    return 1 if summary.interrupted else 0


def _keep_view_metric(console: "Console", folder: "RunFolder", parts: "Parts", summary: "Summary") -> None:
    """Learn from views of some training images what a neighbour should overlook, for ``--layer views``; from fewer
    where the training was so short that more would take long beside it.
    """
    from isosphere.evaluation import learn_view_metric

    data, width = parts.config.data, cast("Encoder", parts.method.encoder).feature_dim
    with counting(console, "Metric of the views") as progress:
        metric = learn_view_metric(
            parts.method.embed,
            parts.images,
            parts.views,
            canvas=data.canvas_size or 32,
            count=max(256, min(4 * width, summary.images // 20)),
            seed=parts.config.train.seed,
            workers=max(1, data.workers),
            progress=progress,
        )
    metric.keep(folder)


def _print_shares(console: "Console", summary: "Summary") -> None:
    assert summary.shares is not None
    milliseconds = 1e3 * (summary.step_seconds or 0.0)
    rows = [
        [name, f"{100 * share:.1f} %", f"{share * milliseconds:.2f} ms"]
        for name, share in summary.shares.items()
    ]
    table(console, f"A step takes {milliseconds:.1f} ms", ["part", "share", "time"], rows)
    outside = summary.shares["loss"] + summary.shares["other"]
    paragraph(console, f"Outside network, optimiser and views: {100 * outside:.1f} %.")


def _close(
    console: "Console", reporter: Any, folder: "RunFolder", config: "Config", summary: "Summary"
) -> None:
    """What was done, and what to type next."""
    from isosphere.training import duration, loss_line

    source, run = config.data.source or "DATA", folder.path
    again = shell("isosphere", "train", source, "--out", run, "--resume")
    if summary.interrupted:
        reporter.say(
            f"Stopped by {summary.interrupted} after {summary.steps:,} steps; everything is saved. Go on "
            f"with: {again}"
        )
        return
    if summary.steps == 0:
        reporter.say(f"{run} holds the untrained encoder of seed {config.train.seed}.")
    else:
        losses = {k: summary.last[k] for k in summary.losses}
        reporter.say(
            f"Trained {summary.epochs:.4g} epochs ({summary.steps:,} steps) in {duration(summary.seconds)}, "
            f"{summary.images_per_second:,.0f} images/s. {loss_line(losses)}"
        )
    if summary.warning:
        reporter.say(summary.warning, warning=True)
    longer = (
        ["--minutes", f"{2 * config.train.minutes:g}"]
        if config.train.minutes
        else ["--epochs", 2 * (config.train.epochs or 0) or 10]
    )
    commands(
        console,
        {
            "judge it": shell("isosphere", "evaluate", run, source),
            "go on": f"{again} {shell(*longer)}",
            "its views": str(run / "views.png"),
        },
    )
