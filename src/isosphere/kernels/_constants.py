"""Marks functions whose results a compiler may take as constants."""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["constant_when_compiled"]

F = TypeVar("F", bound=Callable[..., object])


def constant_when_compiled(function: F) -> F:
    """Let ``torch.compile`` run a function while it traces, and bake in the result, instead of looking into it.

    ``torch.compiler.assume_constant_result`` does the same, but loads the whole compiler (seconds) to set one mark.
    """
    function.__dict__["_dynamo_marked_constant"] = True
    return function
