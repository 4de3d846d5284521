"""The examples of docstrings run, and every public class of the mathematics has one."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
import torch

from isosphere import discrepancies, kernels, reductions, sphere, statistics

MODULES = [
    name
    for part in (sphere, kernels, reductions, statistics, discrepancies)
    for _, name, _ in pkgutil.iter_modules(part.__path__, f"{part.__name__}.")
]
INLINE = re.compile(
    r"^ *(Args|Shape|Scale|Returns|Raises|Numerics|Reference): \S|\*(Scale|Shape|Cost|Raises|Numerics|Reference)\.?\*",
    re.M,
)
BASES = {"Discrepancy", "Elementwise", "NullMoments", "ZonalKernel"}  # not built by themselves


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


@pytest.mark.parametrize("part", [kernels, discrepancies], ids=lambda part: part.__name__)
def test_every_public_class_has_an_example(part):
    public = {name: getattr(part, name) for name in part.__all__ if inspect.isclass(getattr(part, name))}
    missing = {name for name, found in public.items() if ">>>" not in (found.__doc__ or "")}
    assert missing - BASES == set()
