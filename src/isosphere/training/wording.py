"""What is wrong with a configuration, in sentences that say what to type."""

from collections.abc import Sequence
from typing import Any

from isosphere.errors import nearest

__all__ = ["explain"]


def explain(detail: Any, sections: Sequence[str], known: Sequence[str]) -> str:
    """One sentence for one of pydantic's errors, with the nearest of the known sections or keys."""
    key = ".".join(str(part) for part in detail["loc"])
    got = detail["input"]
    if detail["type"] == "extra_forbidden":
        if "." not in key:
            hint = nearest(key, sections)
            return f"There is no section '{key}'.{hint} Known: {', '.join(sections)}."
        section = key.split(".")[0]
        keys = [k for k in known if k.startswith(f"{section}.")]
        hint = nearest(key, keys) or nearest(key.split(".")[-1], [k.split(".")[1] for k in keys])
        return f"There is no key '{key}'.{hint} Known: {', '.join(keys)}."
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}."
    if detail["type"] == "model_type":
        return f"{key}: got {got!r}, expected a section with keys, for example '{key}: {{...}}' in the file."
    section = key.split(".")[0]
    return (
        f"{key}: got {got!r}; {_lower(message)}. Type --set {key}=VALUE, or change it in section {section}."
    )


def _lower(message: str) -> str:
    return (message[:1].lower() + message[1:]).replace("input should", "it should")
