"""``isosphere serve``: a bundle that answers over HTTP."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from isosphere.cli.console import facts, output_console, paragraph
from isosphere.errors import UsageError, option

__all__ = ["serve"]

TOKEN = "ISOSPHERE_TOKEN"
"""A variable of the environment with the token that is asked for."""


def serve(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A bundle that isosphere bundle wrote.", show_default=False),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Reproduce the reference vectors, say how long a picture takes, and stop."
        ),
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of this host.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: one that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that is asked for.", show_default=f"${TOKEN}"),
    ] = None,
    most_mb: Annotated[float, typer.Option(min=0.001, help="Largest request in MiB.")] = 20.0,
    most_pixels: Annotated[int, typer.Option(min=1, help="Largest picture in pixels.")] = 50_000_000,
    queue: Annotated[int, typer.Option(min=1, help="Requests at once; further ones are answered 503.")] = 64,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Requests through the network together.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is answered.")] = 30.0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the network; 0: one a core.")] = 0,
) -> None:
    """Serve a bundle: POST /embed, /search and /classify with a picture as the body; GET /health.

    isosphere serve FOLDER

    curl --data-binary @picture.jpg 'http://127.0.0.1:8000/search?k=5'

    Only programs of this machine are answered unless --host says otherwise, and then a token is asked for. Pictures are
    not kept. Ctrl-C ends it.
    """
    from isosphere.deploy import (
        BundleError,
        Limits,
        checked_in_words,
        open_bundle,
        require_service,
        serve_bundle,
    )
    from isosphere.errors import RunError

    console = output_console()
    if check:
        try:
            paragraph(console, checked_in_words(open_bundle(folder, threads=threads)))
        except BundleError as error:
            raise RunError(str(error)) from None
        return
    require_service()
    bundle = open_bundle(folder, threads=threads)
    token, made = _token(token_file, host)
    limits = Limits(
        most_bytes=round(most_mb * 2**20),
        most_pixels=most_pixels,
        queue=queue,
        batch=batch,
        timeout=timeout,
    )

    def ready(address: str) -> None:
        asked = {} if token is None else {"token": token if made else f"that of {token_file or f'${TOKEN}'}"}
        answers = "POST /embed, /search" + (", /classify" if bundle.classifier is not None else "")
        facts(
            console,
            {
                "address": address,
                "answers": f"{answers}; GET /health",
                **asked,
                "bundle": f"{folder}, version {bundle.version}, {len(bundle.vectors):,} images",
                "end": "Ctrl-C",
            },
        )

    serve_bundle(bundle, host=host, port=port, limits=limits, token=token, ready=ready)


def _token(file: Path | None, host: str) -> tuple[str | None, bool]:
    """The token that is asked for, and whether it was made here: where others than this machine's can ask."""
    from isosphere.deploy import is_loopback
    from isosphere.reading import UnreadableError, read_text

    found = os.environ.get(TOKEN, "").strip()
    if file is not None:
        try:
            found = read_text(file, most=4096).strip()
        except UnreadableError as error:
            raise UsageError(f"{option('token_file', file)} cannot be read: {error}.") from None
        if not found:
            raise UsageError(f"{option('token_file', file)} is empty.")
    if not found.isascii() or not found.isprintable():
        raise UsageError("the token is not of plain letters, digits and signs: give another.")
    if found or is_loopback(host):
        return found or None, False
    return secrets.token_urlsafe(24), True
