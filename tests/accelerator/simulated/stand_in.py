"""Lets a package take the device for another kind: its branches for CUDA or for Apple's GPUs then run too."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any

__all__ = ["stand_in"]


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the source with one kind of device renamed; nothing is written, and no compiled file is read."""

    kind = ""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode("utf-8")
        for before, after in ((f'"{self.kind}"', '"simulated"'), (f"torch.{self.kind}.", "torch.simulated.")):
            source = source.replace(before, after)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, package: str, kind: str) -> None:
        self.package = package
        self.loader = type("_Renaming", (_Loader,), {"kind": kind})

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name.split(".")[0] != self.package:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is None or not isinstance(found.loader, importlib.machinery.SourceFileLoader):
            return found
        loader = self.loader(found.loader.name, found.loader.path)
        places = found.submodule_search_locations
        return importlib.util.spec_from_file_location(
            name, found.origin, loader=loader, submodule_search_locations=places
        )


def stand_in(kind: str, package: str) -> None:
    """From now on `package` is imported with ``"cuda"`` (or ``"mps"``) read as ``"simulated"``, ``torch.cuda.`` too.

    Raises: RuntimeError if the package has been imported already.
    """
    if package in sys.modules:
        raise RuntimeError(f"{package} is imported already: call stand_in before")
    sys.meta_path.insert(0, _Finder(package, kind))  # type: ignore[arg-type]
