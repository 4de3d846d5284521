"""``isosphere evaluate``: what an encoder is worth, beside what costs nothing."""

from importlib.util import find_spec
from typing import Annotated

import typer

from isosphere.cli.console import error_console, facts, output_console, paragraph, table
from isosphere.cli.listing import AsCsv, AsJson, check_form, print_list
from isosphere.cli.options import LAYERS, Network, NoCache, OneData, Passes, Run
from isosphere.errors import RunError
from isosphere.runs import RunFolder

__all__ = ["evaluate"]


def evaluate(
    run: Run,
    data: OneData,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Test images.", show_default="DATA's test part, else every fifth image"
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="See isosphere list tasks.",
            show_default="what is quick and the data allow",
        ),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Images of another kind; may be repeated.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use so many training and test images.", show_default="all")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unreadable images instead of skipping them.")
    ] = False,
    probe: Annotated[
        str, typer.Option(metavar="lbfgs|adamw|sgd", help="How the linear probe is fitted.")
    ] = "lbfgs",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help=f"Which output is judged: {LAYERS}; lastN: also class tokens of a ViT's last N blocks.",
            show_default="adapted where there is one, else backbone",
        ),
    ] = None,
    network: Network = "student",
    passes: Passes = 1,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Leave out the untrained network, pixels and PCA.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images.")] = 2,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    no_cache: NoCache = False,
) -> None:
    """Judge the encoder of a run, with 95 % intervals, beside the untrained one and fixed features.

    isosphere evaluate RUN PICTURES

    With labels (a folder for each class): k-nearest-neighbour accuracy. Without: whether an image's other
    view is found among a hundred, and how the embeddings lie on the sphere. With --ood: whether images of
    another kind are told from unseen ones of this. Figures go to evaluation.json in the run's folder, with
    pictures beside it; --csv and --json have a row a figure. Started by torchrun, the processes share the decoding
    and encoding of the images.
    """
    for_programs = check_form(as_json, as_csv)
    from isosphere.workflows import evaluate as workflow

    found = workflow(
        run,
        data,
        test=test,
        tasks=tasks,
        ood=ood or (),
        limit=limit,
        strict=strict,
        probe=probe,
        layer=layer or (),
        network=network,
        passes=passes,
        baselines=not no_baselines,
        workers=workers,
        cache=not no_cache,
    )
    if not found:  # one of several processes, and not the first
        return
    console = error_console() if for_programs else output_console()
    if for_programs:
        print_list("", {}, found.records(), as_json=as_json, as_csv=as_csv, facts=found.facts)
    else:
        for made in found.tables():
            headings, *rows = made.text_rows()
            table(console, made.title, headings, rows)
            console.print()
    for note in found.notes:
        paragraph(console, note)
    files = {name: str(path) for name, path in found.pictures.items()}
    if RunFolder(found.run).writable and not found.unwritten:
        files = {"figures": str(found.run / "evaluation.json")} | files
    if find_spec("matplotlib") is None:
        files["pictures"] = "not drawn: pip install matplotlib"
    facts(console, files)
    paragraph(console, found.summary())
    if found.unwritten:
        raise RunError(found.unwritten)
