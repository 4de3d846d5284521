"""What ``isosphere train`` prints while it trains, and at the end."""

from typing import TYPE_CHECKING

from isosphere.cli.console import commands, facts, paragraph, table
from isosphere.errors import command, plural

if TYPE_CHECKING:
    from rich.console import Console

    from isosphere.training import Summary
    from isosphere.workflows import Training

__all__ = ["run_training"]


def run_training(console: "Console", training: "Training", *, verbose: bool = False) -> int:
    """Train, and say what was done and what to type next; the exit code."""
    from isosphere.training import STOPPED_BY, WARM_UP, ConsoleReporter, is_first

    ui = ConsoleReporter(console, training.folder.log if is_first() else None)
    with training.started() as added:
        facts(console, {name: said for name, said in added.items() if verbose or name != "k-NN"})
        summary = training.run(ui)
    if is_first():
        if summary.shares is not None:
            _print_shares(console, summary)
        elif training.config.train.profile:
            warm = f"the first {WARM_UP} steps warm up and are not counted, and there were hardly more"
            paragraph(console, f"No profile: {warm}. A longer training has one.")
        for text, warning in training.closing(summary):
            ui.say(text, warning=warning)
        if not summary.interrupted:
            _print_next(console, training, summary)
    return STOPPED_BY.get(summary.interrupted, 1) if summary.interrupted else 0


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
    if summary.launches is not None:
        counts = [[phase, f"{count:,}"] for phase, count in summary.launches.items()]
        waits = f"; the program waits {plural(summary.waits or 0, 'time')} for its device in them"
        table(
            console,
            f"A step launches {sum(summary.launches.values()):,} operators{waits}",
            ["phase", "operators"],
            counts,
        )


def _print_next(console: "Console", training: "Training", summary: "Summary") -> None:
    run = training.folder.path
    worth = training.is_worth_judging(summary)
    judge = {"judge it": command("evaluate", run, training.data)} if worth else {}
    further = {"adapt": training.instead} if training.instead else {"go on": training.longer(summary)}
    commands(console, {**judge, **further, "its views": str(run / "views.png")})
