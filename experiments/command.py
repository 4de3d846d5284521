"""What the commands of experiments and benchmarks have in common."""

import argparse
from importlib.metadata import PackageNotFoundError, version

import torch

__all__ = ["integers", "parser", "place", "version_of"]


def parser(doc: str | None, *, draw: str = "") -> argparse.ArgumentParser:
    """A parser whose help is the module's own text; ``draw``: what ``--draw`` leaves out, if there is one."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if draw:
        made.add_argument("--draw", action="store_true", help=f"draw what is in the table, {draw} nothing")
    return made


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
