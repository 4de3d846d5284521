"""The help in parts: commands by what a person wants to do, and the options of long commands by what they are about."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption

__all__ = ["COMMANDS", "Command", "panel_of"]

COMMANDS = {
    "Start": ("adapt", "train", "evaluate"),
    "Look and search": ("search", "explore", "report", "views"),
    "Lists": ("dedup", "outliers", "select", "cluster"),
    "Labels": ("probe", "compare"),
    "Use elsewhere": ("embed", "export", "bundle", "serve", "update"),
    "Help": ("list", "doctor"),
}

OPTIONS = {
    "Network": ("method", "discrepancy", "ema", "encoder", "init", "distill", "preset"),
    "Length": ("epochs", "minutes", "resume"),
    "Images": ("image_size", "limit", "strict"),
    "Features": ("layer", "network", "passes", "engine"),
    "Settings": ("seed", "config", "set_"),
    "Machine": ("batch_size", "devices", "nodes", "max_restarts", "workers", "profile"),
    "Address": ("host", "port", "token_file"),
    "Limits": ("most_mb", "most_pixels", "queue", "batch", "timeout", "threads"),
    "Output": ("dry_run", "verbose", "as_json", "as_csv", "overwrite", "no_cache"),
}
"""By the names of the parameters; what a command is about stays in its first panel."""

_LONG = 9
"""Options from which on they are divided."""


def panel_of(name: str) -> str:
    """The panel of a command."""
    return next(panel for panel, names in COMMANDS.items() if name in names)


class Command(TyperCommand):
    """A command whose options, where there are many, stand in panels."""

    def __init__(self, *arguments: Any, params: Sequence[Any] | None = None, **options: Any) -> None:
        given = list(params or ())
        if sum(isinstance(each, TyperOption) for each in given) >= _LONG:
            for each in given:
                if isinstance(each, TyperOption):
                    found = (panel for panel, names in OPTIONS.items() if each.name in names)
                    each.rich_help_panel = next(found, None)
        super().__init__(*arguments, params=given, **options)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command in its usage: ``[OPTIONS] RUN [DATA]...``."""
        pieces = ["[OPTIONS]"]
        for each in self.params:
            if isinstance(each, TyperArgument):
                name = each.metavar or (each.name or "").upper()
                pieces.append((name if each.required else f"[{name}]") + "..." * (each.nargs == -1))
        return pieces
