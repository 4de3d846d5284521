"""Pages from templates: escaped, complete in themselves, written whole or not at all."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from isosphere import __version__
from isosphere.atomic import make_folder, write_text
from isosphere.errors import UsageError, printable


def write_page(path: str | Path, template: str, values: Mapping[str, Any]) -> Path:
    """Render a template of the package to a file.

    Raises: UsageError if Jinja2 is not installed; RunError if the file cannot be written.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UsageError("Pages need Jinja2, which is not installed. Type: pip install jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("isosphere.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    given = {"version": __version__, "made": date.today().isoformat(), **values}
    text = environment.get_template(template).render(given)
    target = Path(path)
    make_folder(target.parent)
    write_text(target, printable(text, lines=True))
    return target
