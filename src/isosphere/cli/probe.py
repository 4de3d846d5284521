"""``isosphere probe``: a classifier from a few labels, on frozen features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import error_console, facts, output_console, paragraph
from isosphere.cli.labels import Group, Labels
from isosphere.cli.listing import AsCsv, AsJson, Columns, check_form, print_list
from isosphere.cli.names import together
from isosphere.cli.options import Data, Layer, NoCache, Overwrite, Passes, Run, Seed
from isosphere.errors import command

if TYPE_CHECKING:
    from isosphere.workflows import ProbeResult

__all__ = ["probe"]


def probe(
    run: Run,
    data: Data,
    labels: Labels = None,
    group: Group = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File of the classifier (.safetensors).", show_default="RUN/probe.safetensors"
        ),
    ] = None,
    layer: Layer = None,
    passes: Passes = 1,
    seed: Seed = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    overwrite: Overwrite = False,
    no_cache: NoCache = False,
) -> None:
    """Fit a classifier to labelled images, and say how it does on images that it has not seen.

    isosphere probe RUN PICTURES --labels labels.csv

    Logistic regression on frozen features, in five folds; near-duplicates, and images with one entry in the column
    --group, are in one fold. isosphere embed RUN PICTURES --classify FILE --out classes.csv applies what is saved.
    """
    for_programs = check_form(as_json, as_csv)
    import isosphere
    from isosphere.runs import RunFolder

    typed = together(data)
    RunFolder.require_first(run, typed, command("probe", typed, run, labels=labels))
    loaded = isosphere.load(run, cache=not no_cache)
    found = isosphere.probe(
        loaded,
        typed,
        labels,
        out=out,
        layer=layer,
        passes=passes,
        group=group,
        seed=seed or 0,
        overwrite=overwrite,
    )
    console = error_console() if for_programs else output_console()
    rows = [
        {"class": name, "recall": each.value, "low": each.low, "high": each.high, "images": count}
        for name, (each, count) in found.recalls.items()
    ]
    columns: Columns = {
        "class": lambda row: row["class"],
        "recall, % [95 %]": lambda row: (
            f"{100 * row['recall']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        ),
        "images": lambda row: f"{row['images']:,}",
    }
    title = f"Recall of each class, {found.classifier.layer}"
    print_list(title, columns, rows, as_json=as_json, as_csv=as_csv, facts=found.as_dict())
    if not as_json:
        facts(console, _figures(found))
    for remark in found.remarks:
        paragraph(console, remark, style="yellow")
    if found.file is not None:
        again = command("embed", run, "OTHERS", classify=found.file, out="classes.csv")
        facts(console, {"written": str(found.file), "apply it": again})


def _figures(found: "ProbeResult") -> dict[str, str]:
    accuracy, balanced = (
        f"{100 * each.value:.1f} % [{100 * each.low:.1f}, {100 * each.high:.1f}]"
        for each in (found.accuracy, found.balanced)
    )
    return {
        "accuracy": f"{accuracy} of {found.images:,} images, each by a classifier fitted without it",
        "balanced": f"{balanced}, each class counting the same",
        "largest class": f"{100 * found.largest:.1f} %, what always naming it would reach",
    }
