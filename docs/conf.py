"""The documentation site: ``make docs`` builds it into ``docs/_build``, strictly and without a network."""

import sys
from pathlib import Path

from isosphere import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "isosphere"
author = "The isosphere developers"
copyright = "The isosphere developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "commands",
    "formulas",
    "public_names",
]
exclude_patterns = ["_build"]
nitpicky = True
# Types of other packages have no page here, and what begins with an underscore has none on purpose.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!isosphere\.).*"),
    (r"py:.*", r"isosphere\.(.*\.)?_.*"),
]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    *(("Scale", "returns_style"), ("Shape", "returns_style"), ("Parts", "returns_style")),
    *(("State", "returns_style"), ("Numerics", "returns_style"), ("Reference", "returns_style")),
    *(("Cost", "returns_style"),),
]

smartquotes = False  # --option stays as it is typed

highlight_language = "text"  # Python says so itself
html_theme = "furo"
html_title = "isosphere"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
