"""A model card: what is known of a run's data, method and figures, and places for what only its author knows."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from isosphere.deploy._embedder import Embedder
from isosphere.errors import RunError, plural
from isosphere.evaluation import Figure, read_results

_YOURS = "*Yours to write:*"
_SHOWN = ("trained", "initial", "untrained")
"""Models whose figures are shown."""


def model_card(run: Embedder, name: str) -> str:
    """The card of a run in the Hub's Markdown, under this name; it holds no path of this machine."""
    config, encoder = run.folder.read_config(), run.encoder
    return "\n".join(
        [
            "---",
            "library_name: timm",
            "pipeline_tag: image-feature-extraction",
            "license: unknown  # yours to choose, see Licence below",
            "tags:",
            "- image-feature-extraction",
            "- self-supervised-learning",
            "- timm",
            "- isosphere",
            "---",
            f"# {name}",
            "",
            f"An image encoder that was trained {_trained(config)}: timm's `{encoder.name}`, from images of "
            f"{run.size} px to {encoder.feature_dim} features.",
            "",
            f"{_YOURS} what it is for, what it was not tried on, and whom to ask.",
            "",
            "## Use",
            "```python",
            "import timm",
            "",
            f'model = timm.create_model("hf-hub:YOUR_NAME/{name}", pretrained=True, num_classes=0).eval()',
            "```",
            "`prepare.py` reads a picture exactly as in training and evaluation, by numpy and Pillow alone.",
            "",
            "## Data",
            *(f"- {line}" for line in _data(run, config.get("data", {}))),
            "",
            f"{_YOURS} where the images come from, who may use them, and whom they show.",
            "",
            "## Method",
            *(f"- {line}" for line in _method(run, config)),
            "",
            "## Figures",
            *_figures(run),
            "",
            "## Licence",
            *licence(run),
            "",
        ]
    )


def _trained(config: Mapping[str, Mapping[str, Any]]) -> str:
    """In how far without labels: what it began with may have seen some."""
    given = config.get("model", {}).get("init", "random") != "random"
    return "further from given weights, without labels" if given else "without labels"


def _data(run: Embedder, data: Mapping[str, Any]) -> Iterator[str]:
    known = run.folder.read_images()
    source = str(known.get("source") or data.get("source") or "images that were given in Python")
    yield f"Images: {_place(source)}"
    if count := known.get("count"):
        yield f"Number: {plural(int(count), 'image')}"
    yield f"Views of {run.size} px; labels were not used"


def _method(run: Embedder, config: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    method, train = config.get("method", {}), config.get("train", {})
    chosen = {k: v for k, v in method.items() if k != "name" and v not in (None, {}, [])}
    options = ", ".join(f"{key} {value}" for key, value in chosen.items())
    yield f"Method: {method.get('name')}{f' ({options})' if options else ''}"
    epochs, minutes = train.get("epochs"), train.get("minutes")
    length = f"{minutes} minutes" if epochs is None else f"{epochs} epochs"
    yield f"Training: {length} in batches of {train.get('batch_size')}, seed {train.get('seed')}"
    cfg = run.encoder.pretrained_cfg
    if cfg is not None:
        assumed = " (assumed by its architecture)" if run.encoder.assumed else ""
        yield f"Began with weights of {cfg.get('architecture')}, {cfg.get('tag', 'no tag')}{assumed}"
    elif config.get("model", {}).get("init", "random") != "random":
        yield "Began with given weights"
    else:
        yield "Began with random weights"


def _figures(run: Embedder) -> list[str]:
    """A table of what was measured of these weights, each task by the metric that it begins with."""
    try:
        found = read_results(run.folder)
    except RunError:
        found = {}
    now = run.judged(run.weights)
    rows = [
        f"| {task} | {_place(result.data)} | {_named(figure)} | {figure.metric} | {_value(figure)} |"
        for task, result in found.items()
        if result.weights in ("", now)
        for figure in result.figures
        if figure.model in _SHOWN and figure.metric == result.figures[0].metric
    ]
    if not rows:
        return ["Not evaluated yet: `isosphere evaluate RUN DATA`, remove this file, and export again."]
    head = ["| task | images | of | metric | value, 95 % interval |", "|---|---|---|---|---|"]
    return [*head, *rows]


def _named(figure: Figure) -> str:
    return " ".join(filter(None, [figure.model, figure.layer, figure.subset, figure.variant]))


def _value(figure: Figure) -> str:
    estimate = figure.estimate
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def licence(run: Embedder) -> list[str]:
    """What is known of the licence of a run's weights, in lines of Markdown."""
    said = [f"{_YOURS} the licence of these weights, which that of the images may decide."]
    cfg = run.encoder.pretrained_cfg or {}
    if licence := cfg.get("license"):
        assumed = ", assumed to be those that training began with," if run.encoder.assumed else ""
        said.append(f"The weights of {cfg.get('architecture')}{assumed} have the licence {licence}.")
    return said


def _place(data: str) -> str:
    """Images as they were named, without the folders above them."""
    return PurePath(data.partition("?")[0]).name or "images"
