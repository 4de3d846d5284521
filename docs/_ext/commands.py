"""``.. commands::`` is the command line: each command with its arguments and options, as the program states them."""

import inspect
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Commands(SphinxDirective):
    """A section a command."""

    def run(self) -> list[nodes.Node]:
        import typer.main

        from isosphere.cli import app

        commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        return [_section(name, command) for name, command in commands.items() if not command.hidden]


def _section(name: str, command: Any) -> nodes.section:
    section = nodes.section(ids=[f"isosphere-{name}"])
    section += nodes.title(text=name)
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        text = "\n".join(line.strip() for line in part.replace("\b", "").strip().splitlines())
        shown = text.startswith("isosphere ")
        section += nodes.literal_block(text, text, language="text") if shown else nodes.paragraph(text=text)
    section += _table([_row(parameter) for parameter in command.params if not parameter.hidden])
    return section


def _row(parameter: Any) -> tuple[str, str]:
    """How it is typed, and what it does with its default."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    takes = parameter.metavar or getattr(parameter.type_descriptor.annotation, "__name__", "VALUE").upper()
    typed = takes if not names.startswith("-") else names if parameter.is_flag else f"{names} {takes}"
    default = parameter.show_default
    return typed, (parameter.help or "") + (
        f" Default: {default.strip('()')}." if isinstance(default, str) else ""
    )


def _table(rows: list[tuple[str, str]]) -> nodes.table:
    body = nodes.tbody()
    for typed, said in rows:
        first, second = nodes.entry(), nodes.entry()
        first += nodes.paragraph("", "", nodes.literal(text=typed))
        second += nodes.paragraph(text=said)
        body += nodes.row("", first, second)
    group = nodes.tgroup("", nodes.colspec(colwidth=2), nodes.colspec(colwidth=3), body, cols=2)
    return nodes.table("", group, classes=["colwidths-given"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
