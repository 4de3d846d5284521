"""What the commands of experiments and benchmarks have in common."""

import argparse
import math
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch

__all__ = ["count", "integers", "number", "parser", "place", "share", "version_of"]


def parser(doc: str | None, *, draw: str = "") -> argparse.ArgumentParser:
    """A parser whose help is the module's own text; ``draw``: what ``--draw`` leaves out, if there is one."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if draw:
        made.add_argument("--draw", action="store_true", help=f"draw what is in the table, {draw} nothing")
    return made


Number = TypeVar("Number", int, float)


def _checked(
    convert: Callable[[str], Number], holds: Callable[[Number], bool], expected: str
) -> Callable[[str], Number]:
    def read(text: str) -> Number:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
        return value

    return read


count = _checked(int, lambda value: value > 0, "a whole number above zero")
number = _checked(float, lambda value: 0 < value < math.inf, "a number above zero")
share = _checked(float, lambda value: 0 <= value <= 1, "a number of 0 to 1")
"""Types of arguments: a run of hours does not begin with a number that it cannot use."""


def integers(text: str) -> list[int]:
    """``3,8,32``."""
    return [int(number) for number in text.split(",")]


def version_of(package: str) -> str:
    """``lightly 1.5.0``, or ``lightly absent``: what is compared with need not be installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def place(device: str | torch.device, *, toy: bool = False) -> str:
    """What computes, for a line or a row of figures; at toy size these say that they measure nothing."""
    there = torch.device(device)
    name = torch.cuda.get_device_name(there) if there.type == "cuda" else f"a {there.type.upper()}"
    return f"{name}, at toy size: no measurement" if toy else name
