"""The API reference: ``.. public:: isosphere.kernels`` is an entry for every name in that folder's ``__all__``.

An object has its entry under the first folder that shows it; where another shows it too, that entry points there.
References to an object by the private module that defines it lead to the public entry.
"""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules, walk_packages
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError, PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import isosphere


def packages() -> list[str]:
    """isosphere and the folders below it that have an ``__all__``, each a public face."""
    names = [found.name for found in walk_packages(isosphere.__path__, "isosphere.") if found.ispkg]
    return [name for name in ["isosphere", *names] if hasattr(import_module(name), "__all__")]


def public_names() -> Iterator[tuple[str, str, Any]]:
    """Folder, name and object of everything public."""
    for package in packages():
        module = import_module(package)
        for name in module.__all__:
            yield package, name, getattr(module, name)


def homes() -> dict[str, str]:
    """Where each public class and function is defined, and the name of its entry."""
    found: dict[str, str] = {}
    for package, name, thing in public_names():
        if place := _defined(thing):
            found.setdefault(place, f"{package}.{name}")
    return found


class Public(SphinxDirective):
    """One entry a public name of a folder."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        home, lines = homes(), list[str]()
        for of, name, thing in public_names():
            if of == package:
                lines += [*_entry(package, name, thing, home), ""]
        if not lines:
            raise ExtensionError(f"{package} has no __all__, or an empty one")
        return self._parsed(lines)

    def _parsed(self, lines: list[str]) -> list[nodes.Node]:
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, section)
        return section.children


def _defined(thing: Any) -> str:
    """``isosphere.kernels._heat.HeatKernel``; empty for constants and types that are not of this package."""
    place = f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', None)}"
    return place if place.startswith("isosphere.") and not place.endswith("None") else ""


def _entry(package: str, name: str, thing: Any, home: dict[str, str]) -> list[str]:
    full, place = f"{package}.{name}", _defined(thing)
    if place and home[place] != full:
        kind = "class" if inspect.isclass(thing) else "function"
        return [
            f".. py:{kind}:: {name}",
            f"   :module: {package}",
            "",
            f"   The same as :py:obj:`{home[place]}`.",
        ]
    if inspect.isclass(thing):
        return [f".. autoclass:: {full}", "   :members:", "   :show-inheritance:"]
    if inspect.isroutine(thing) and place:
        return [f".. autofunction:: {full}"]
    return [
        f".. py:data:: {name}",
        f"   :module: {package}",
        "",
        *(f"   {line}" for line in _described(package, name, thing)),
    ]


def _described(package: str, name: str, thing: Any) -> list[str]:
    """What stands below a constant where it is defined; without that, its value."""
    folder = import_module(package)
    modules = [package, *(f"{package}.{found.name}" for found in iter_modules(folder.__path__))]
    for module in modules:
        try:
            documented = ModuleAnalyzer.for_module(module).find_attr_docs()
        except PycodeError:
            continue
        if text := documented.get(("", name)):
            return text
    value = " ".join(repr(thing).split())
    return [f"``{value}``" if len(value) < 200 else f"A {type(thing).__name__} of {len(thing)} entries."]


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element):
    full = homes().get(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or full is None:
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("public", Public)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
