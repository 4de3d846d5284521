"""What was run, from the files of a run's folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from isosphere.runs import RunFolder, read_metrics


def facts_of(folders: Sequence[RunFolder]) -> dict[str, list[str]]:
    """What was run, by its name a cell a run, from configuration, metrics and environment."""
    columns = [_facts(folder) for folder in folders]
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name, "\u2013") for column in columns] for name in names}


def _facts(folder: RunFolder) -> dict[str, str]:
    config = folder.read_config()
    data, model, train = (config.get(part) or {} for part in ("data", "model", "train"))
    views, method, optim = (config.get(part) or {} for part in ("views", "method", "optim"))
    rows, chosen = read_metrics(folder.metrics), folder.read_chosen()
    last = rows[-1] if rows else {}
    if method.get("name") == "frozen":
        size = f"{data.get('image_size')} px"
        return {
            "images": f"{data['source']}, {size}" if data.get("source") else size,
            "encoder": f"{model.get('encoder')}, {model.get('init')}, frozen",
            **({"views": f"{views.get('recipe')}, {views.get('overrides')}"} if views else {}),
            **_machine(folder),
        }
    found = {
        "folder": str(folder.path),
        "images": f"{data.get('source')}, {data.get('image_size')} px views",
        "channels": _channels(data),
        "encoder": f"{model.get('encoder')}, {model.get('init')} start",
        "method": f"{method.get('name')}"
        + (f", weight {method['weight']:g}" if method.get("weight") else ""),
        "embedding": f"{model.get('dim')} dimensions",
        "views": f"{views.get('recipe')}" + (f", {views['overrides']}" if views.get("overrides") else ""),
        "optimiser": f"{optim.get('name')}, learning rate {optim.get('learning_rate'):g}"
        if optim.get("learning_rate")
        else "",
        "batch, seed": f"{train.get('batch_size')}, {train.get('seed')}",
        "trained": _length(last),
        "ends with": ": ".join(str(chosen[key]) for key in ("weights", "why") if key in chosen),
        "speed": f"{float(last['images_per_second']):,.0f} images/s" if last.get("images_per_second") else "",
        **_machine(folder),
    }
    return {name: value for name, value in found.items() if value}


def _channels(data: Mapping[str, Any]) -> str:
    """Which channels were taken, where they are no colours, and which of them pictures show."""
    taken = data.get("channels")
    if not taken or str(taken).startswith("rgb"):
        return ""
    number = len(data.get("mean") or ())
    some = "the first three are shown as red, green and blue" if number > 2 else "the first is shown as grey"
    return f"{taken}; {some}" if number > 1 else str(taken)


def _length(last: Mapping[str, str]) -> str:
    if not last.get("step"):
        return "not at all: the encoder as it was initialised"
    seconds = float(last.get("seconds") or 0)
    time = f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"
    return f"{int(last['step']):,} steps, epoch {last.get('epoch', '?')}, {time}"


def _machine(folder: RunFolder) -> dict[str, str]:
    found = folder.read_environment()
    try:
        packages = found["packages"]
        gpus, cpu = found.get("gpus") or [], found.get("cpu", {})
        return {
            "machine": ", ".join(gpus) or f"{cpu.get('name')}, {cpu.get('cores')} cores",
            "versions": ", ".join(
                f"{k} {packages[k]}" for k in ("isosphere", "torch", "timm") if k in packages
            ),
        }
    except (AttributeError, KeyError, TypeError):  # absent, or damaged
        return {}
