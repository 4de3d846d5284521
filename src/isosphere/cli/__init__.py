"""The command line: ``isosphere train``, ``evaluate``, ``embed``, ``search``, and the others."""

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from isosphere import __version__
from isosphere.addresses import Secrets, public
from isosphere.cli import panels
from isosphere.cli.commands import COMMANDS as _COMMANDS
from isosphere.cli.commands import LIGHT, SHARED
from isosphere.cli.console import error_console, paragraph
from isosphere.cli.faults import (
    DEBUG,
    EXAMPLES,
    STOPPED,
    StoppedError,
    completed,
    fault,
    leave_quietly,
    lost_output,
    said_when_stopped,
    warnings_in_words,
)
from isosphere.cli.memory import keep_freed_memory
from isosphere.cli.starting import COMPLETION, after_loading
from isosphere.errors import IsosphereError, UsageError, for_a_shell, nearest

__all__ = ["app", "main"]

app = typer.Typer(
    name="isosphere",
    help=(
        "Learn an image encoder without labels, and judge it.\n\n"
        "Start with:  isosphere adapt PICTURES --out RUN  for photographs, else  isosphere train PICTURES --out RUN,  "
        "and then  isosphere evaluate RUN PICTURES. "
        "Without pictures at hand, textures:wood will do for PICTURES."
    ),
    epilog="isosphere COMMAND --help explains a command.",
    rich_markup_mode="markdown",
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


COMMANDS = tuple(_COMMANDS)
for _name, _command in _COMMANDS.items():
    _run = said_when_stopped(_command if _name in LIGHT else after_loading(_command))
    app.command(_name, cls=panels.Command, rich_help_panel=panels.panel_of(_name))(_run)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        typer.echo(f"isosphere {__version__}")
        raise typer.Exit


def _alone(command: str) -> None:
    """Refuse several processes for a command that each of them would do in full, into the same file."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"isosphere {command} works in one process: start it without torchrun ({' and '.join(SHARED)} share "
            "their work among several)."
        )


@for_a_shell()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 (failed), 2 (used wrongly), 130 (Ctrl-C), 141 (a closed
    pipe) or 143 (SIGTERM)."""
    with for_a_shell(), warnings_in_words():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    keep_freed_memory()
    typed = tuple(sys.argv[1:] if arguments is None else arguments)
    words, given, errors = list[str](), dict[str, Secrets](), error_console()
    try:
        words = [public(word, given) for word in typed]
        if not words and COMPLETION not in os.environ:
            words = ["--help"]
        first = words[0] if words else ""
        if words and not first.startswith("-") and first not in COMMANDS:
            raise UsageError(
                f"There is no command '{first}'.{nearest(first, COMMANDS)} Known: {', '.join(COMMANDS)}."
            )
        if first in COMMANDS and first not in SHARED and "LOCAL_WORLD_SIZE" in os.environ:
            _alone(first)
        result = app(words, standalone_mode=False, prog_name="isosphere", obj=typed)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except IsosphereError as error:
        paragraph(errors, "isosphere: " + " ".join(str(error).split("\n")), style="red")
        return error.exit_code
    except TyperException as error:
        known = words[0] if words[0] in COMMANDS else ""
        said = error.format_message().rstrip(".")
        quoted = " Quote a pattern ('s-{000..003}.tar'), and several sources as one: 'A + B'." * (
            "extra" in said
        )
        lacking = next((name for name in EXAMPLES if said.startswith(f"Missing option '{name}'")), None)
        typed = (
            completed(lacking, words) if lacking else f"Type {' '.join(['isosphere', known]).strip()} --help."
        )
        paragraph(errors, f"isosphere: {said}.{quoted} {typed}", style="red")
        return 2
    except (BrokenPipeError, SystemExit) as error:  # Typer and rich make the second of the first
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        return leave_quietly()
    except KeyboardInterrupt:
        paragraph(errors, f"isosphere: {STOPPED}", style="red")
        return StoppedError.exit_code
    except Exception as error:
        if why := lost_output(error):
            paragraph(errors, f"isosphere: cannot write to standard output: {why}.", style="red")
            leave_quietly()
            return 1
        if os.environ.get(DEBUG):
            raise
        paragraph(errors, f"isosphere: {fault(error, words)}", style="red")
        return 1
