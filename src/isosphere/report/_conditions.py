"""On what the runs of a table were evaluated, and whether that is the same for all of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from isosphere.evaluation import TaskResult

_CONTENT = "content of the"
"""How the facts begin that are digests: worth a word only where they differ."""


def conditions(result: TaskResult, subset: str = "") -> dict[str, str]:
    """What a figure depends on beside the run, by name, as far as the protocol says it.

    `subset`: the set of other images that a table is about.
    """
    targets = result.protocol.get("targets")
    flat = {**result.protocol, **(targets if isinstance(targets, Mapping) else {})}
    facts = {
        "data": result.data or None,
        "k": flat.get("k"),
        "training images": flat.get("train_images"),
        "test images": flat.get("test_images", flat.get("queries", flat.get("images"))),
        "OOD images": ood_images(flat, subset),
        "layer": flat.get("layer"),
        "candidates": flat.get("candidates_per_query"),
        "split": flat.get("split"),
        "passes": flat.get("passes", 1),
    }
    said = {k: f"{v:,}" if isinstance(v, int) else str(v) for k, v in facts.items() if v is not None}
    return said | _contents(result, ("train", "test", subset))


def _contents(result: TaskResult, parts: Collection[str]) -> dict[str, str]:
    words = {"train": "training images", "test": "test images"}
    return {
        f"{_CONTENT} {words.get(part, f'OOD images {part}')}": digest[:8]
        for part, digest in result.images.items()
        if part in parts
    }


def mixed(results: Mapping[str, TaskResult]) -> str:
    """Which tasks of one run were measured on which images, where these are not the same for all; else nothing."""
    compared = {
        task: {
            **(
                _contents(result, ("train", "test"))
                or {"data": result.data, "split": conditions(result).get("split", "")}
            ),
            "passes": conditions(result)["passes"],
        }
        for task, result in results.items()
    }
    if not differing(compared.values()):
        return ""
    apart = sorted(differing(compared.values()))
    plain = (
        "data",
        "training images",
        "test images",
        *(name for name in apart if not name.startswith(_CONTENT)),
    )
    groups = _by_facts(results, compared, plain)
    if len(groups) == 1:  # images that only their content tells apart
        groups = _by_facts(results, compared, (*plain, *apart))
    return "; ".join(f"{', '.join(tasks)}: {facts}" for facts, tasks in groups.items())


def _by_facts(
    results: Mapping[str, TaskResult], compared: Mapping[str, Mapping[str, str]], names: Collection[str]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for task, result in results.items():
        facts = {**conditions(result), **compared[task]}
        said = ", ".join(f"{name} {facts[name]}" for name in dict.fromkeys(names) if facts.get(name))
        groups.setdefault(said, []).append(task)
    return groups


def ood_images(protocol: Mapping[str, Any], subset: str) -> int | None:
    """Images of an OOD set; None where there is no such set, or the protocol does not say."""
    counts = protocol.get("images")
    return counts.get(subset) if isinstance(counts, Mapping) else None


def differing(evaluated: Collection[Mapping[str, str]]) -> set[str]:
    """Names of the facts in which runs differ; what one does not say differs from nothing."""
    names = {name for facts in evaluated for name in facts}
    return {name for name in names if len({facts[name] for facts in evaluated if name in facts}) > 1}


def conditions_note(evaluated: Mapping[str, Mapping[str, str]]) -> str:
    """What all runs were evaluated on, then what each was alone, by its name."""

    def said(facts: Mapping[str, str], common: bool) -> str:
        return ("; " if common else ", ").join(
            f"{name}: {value}" if common else f"{name} {value}"
            for name, value in facts.items()
            if common == all(other.get(name) == value for other in evaluated.values())
            and not (common and (name.startswith(_CONTENT) or (name, value) == ("passes", "1")))
        )

    first = next(iter(evaluated.values()))
    apart = {run: words for run, facts in evaluated.items() if (words := said(facts, False))}
    parts = [
        said(first, True),
        "Not evaluated alike: none is marked as the best" if differing(evaluated.values()) else "",
        "; ".join(f"{run}: {words}" for run, words in apart.items()),
    ]
    return ". ".join(filter(None, parts))


def shared(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts that are the same in all protocols, in the mappings within them too."""
    found: dict[str, Any] = {}
    for name in protocols[0]:
        values = [protocol.get(name) for protocol in protocols]
        nested = [value for value in values if isinstance(value, Mapping)]
        if len(nested) == len(values):
            found[name] = shared(nested)
        elif all(value == values[0] for value in values):
            found[name] = values[0]
    return found
