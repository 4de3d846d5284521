"""The examples of docstrings run, and every public class of the mathematics has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

from isosphere import discrepancies, kernels, reductions, sphere, statistics

MODULES = [
    name
    for part in (sphere, kernels, reductions, statistics, discrepancies)
    for _, name, _ in pkgutil.iter_modules(part.__path__, f"{part.__name__}.")
]
BASES = {"Discrepancy", "Elementwise", "NullMoments", "ZonalKernel"}  # not built by themselves


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


@pytest.mark.parametrize("part", [kernels, discrepancies], ids=lambda part: part.__name__)
def test_every_public_class_has_an_example(part):
    public = {name: getattr(part, name) for name in part.__all__ if inspect.isclass(getattr(part, name))}
    missing = {name for name, found in public.items() if ">>>" not in (found.__doc__ or "")}
    assert missing - BASES == set()
