"""The examples of docstrings run, and every public class of the mathematics has one."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
import torch

from isosphere import discrepancies, kernels, methods, models, reductions, sphere, statistics
from isosphere.methods import vje

PARTS = (sphere, kernels, reductions, statistics, discrepancies, methods, vje)
MODULES = [
    *(name for part in PARTS for _, name, _ in pkgutil.iter_modules(part.__path__, f"{part.__name__}.")),
    *(f"isosphere.models.{name}" for name in ("_batch_norm", "_heads", "_inference", "_small_conv")),
]
INLINE = re.compile(
    r"^ *(Args|Shape|Scale|Parts|State|Returns|Raises|Numerics|Reference): \S"
    r"|\*(Args|Scale|Shape|Parts|State|Cost|Raises|Numerics|Reference)\.?\*",
    re.M,
)
BASES = {
    "Discrepancy",
    "Elementwise",
    "NullMoments",
    "Pull",
    "Regularised",
    "ZonalKernel",
}  # not built by themselves


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_have_their_sections_as_headings(name):
    """`Raises:` and what follows it indented, as in Google's style: what a renderer takes apart."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    assert [match.group() for text in texts for match in INLINE.finditer(text)] == []


@pytest.mark.parametrize("part", [*PARTS, models], ids=lambda part: part.__name__)
def test_every_public_class_has_an_example(part):
    public = [found for name in part.__all__ if inspect.isclass(found := getattr(part, name))]
    checked = [found for found in public if found.__module__ in MODULES]
    assert {found.__name__ for found in checked if ">>>" not in (found.__doc__ or "")} - BASES == set()
