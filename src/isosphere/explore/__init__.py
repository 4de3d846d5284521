"""A page on which a collection of images is looked at, searched and labelled: served to this machine, or as files."""

from isosphere.explore._annotations import Annotations
from isosphere.explore._atlas import check_atlas, write_atlas
from isosphere.explore._collection import Collection, Found
from isosphere.explore._export import check_folder, export_page
from isosphere.explore._page import Page, explored
from isosphere.explore._pictures import Pictures
from isosphere.explore._plane import Plane, plane_of
from isosphere.explore._resources import Resources
from isosphere.explore._server import build_app, require_packages, serve

__all__ = [
    "Annotations",
    "Collection",
    "Found",
    "Page",
    "Pictures",
    "Plane",
    "Resources",
    "build_app",
    "check_atlas",
    "check_folder",
    "explored",
    "export_page",
    "plane_of",
    "require_packages",
    "serve",
    "write_atlas",
]
