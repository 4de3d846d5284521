"""The Hugging Face Hub: asked once whether it answers, for its client would try for a minute."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from isosphere.errors import IsosphereError, RunError, option

HUB_SECONDS = 5.0
"""The hub is given up if it has not answered by then."""
HUB = "hf-hub:"
"""Begins the name of a network on the Hub, as in timm."""
CONFIG = "config.json"
WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Files of weights in timm's layout, the first that there is."""


@cache
def fetch(name: str) -> Path:
    """The folder of the hub's cache with description and weights of a network, ``owner/name`` with or without
    ``@revision``.

    Raises: RunError in a sentence if they are not to be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    with reached(f"{HUB}{name}"):
        config = hf_hub_download(repository, CONFIG, revision=revision or None, etag_timeout=HUB_SECONDS)
        for file in WEIGHTS:
            try:
                hf_hub_download(repository, file, revision=revision or None, etag_timeout=HUB_SECONDS)
            except EntryNotFoundError as error:
                if file == WEIGHTS[-1] or (isinstance(error, LocalEntryNotFoundError) and not offline()):
                    raise
            else:
                break
    return Path(config).parent


def offline() -> bool:
    """Whether the hub's cache alone is asked."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


@contextmanager
def reached(name: str) -> Iterator[None]:
    """Within the block the hub's cache alone is asked where the hub does not answer.

    Raises: RunError in a sentence if the weights are not to be had.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    except (IsosphereError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # the hub's and torch's own errors, of several packages
        raise RunError(
            f"the pretrained weights of '{name}' could not be fetched ({_why(error)}). Fetch them once where there is "
            f'network, or give a local file: {option("init", "FILE")}. To make one elsewhere: python -c "import timm, '
            f"torch; torch.save(timm.create_model('{name}', pretrained=True).state_dict(), 'weights.pth')\"."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _why(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if offline():
        return "there is no network, or the hub does not answer"
    if isinstance(error, GatedRepoError):
        return "its terms have to be accepted first, on its page on the Hub"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has no network of this name, or it is private"
    if isinstance(error, RevisionNotFoundError):
        return "the Hub has no such revision of it"
    return str(error).split("\n")[0].rstrip(".") or type(error).__name__


def _answers(address: str) -> bool:
    """Whether a server says anything at all, through the proxies and certificates of the hub's own client."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=HUB_SECONDS)
    except Exception:
        return False
    return True
