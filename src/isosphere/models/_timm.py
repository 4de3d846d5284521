"""timm's networks as backbones: which there are, how they are built at a size, how wide their features are."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import timm
import torch
from torch import nn

from isosphere.errors import RunError, UsageError, listing, nearest, option, plural
from isosphere.models._record import Arguments, Stem
from isosphere.models._small_conv import SMALL_CONV
from isosphere.models._weights import a_few

# Below this size a residual network's 7x7 stem and max-pool would leave a handful of positions.
SMALL_STEM_BELOW = 80
HUB_SECONDS = 5.0
"""The hub is given up if it has not answered by then."""


_UNPOOLED = "_enc"
"""Ending of the names of encoders of language models, which give a row per patch and no vector."""
_OF_OTHER_SIZES = {"vit_so400m_patch14_siglip_384", "vit_so400m_patch14_siglip_gap_384"}
"""Made for a size that is no multiple of their patch; they take 378 px."""


@cache
def timm_names() -> tuple[str, ...]:
    """Names of timm's networks that give a vector of features of an image of the size that they are made for."""
    names = timm.list_models()
    return tuple(n for n in names if not n.endswith(_UNPOOLED) and n not in _OF_OTHER_SIZES)


def require_name(name: str) -> None:
    """Raises: UsageError if timm has no such network, or it gives no vector."""
    if not timm.is_model(name):
        hint = nearest(name, [SMALL_CONV, *timm_names()])
        raise UsageError(f"Unknown encoder '{name}'.{hint} See {listing('encoders')}.")
    if name.endswith(_UNPOOLED):
        raise UsageError(
            f"{name} gives a row per patch, and one vector an image is needed: give {option('encoder', name[:-4])}, "
            "which pools them."
        )


def build_timm(
    name: str,
    *,
    image_size: int,
    in_chans: int,
    pretrained: bool = False,
    stem: Stem | None = None,
    arguments: Arguments | None = None,
) -> tuple[nn.Module, Arguments, Stem | None]:
    """A network by name without its classifier, with the arguments that its constructor took and its stem.

    Args:
        stem: of a residual network; None: the small one below 80 pixels, unless its weights are timm's. Other networks
            have one stem, and None for it.
        arguments: those of an earlier call, to build the same again; None: the constructor is asked which it takes.

    Raises: UsageError for an unknown name, or a size that the network cannot be built for; RunError if pretrained
        weights cannot be had.
    """
    require_name(name)
    fixed: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans}
    if pretrained:
        _require_weights(name)
    with _all_loaded(name) if pretrained else _as_built(name, image_size):
        if arguments is None:
            asked = Arguments(img_size=image_size, dynamic_img_size=True, strict_img_size=False)
            backbone, arguments = _as_accepted(name, asked, {**fixed, "pretrained": pretrained})
        else:
            backbone = timm.create_model(name, pretrained=pretrained, **fixed, **arguments.given())
    if not isinstance(backbone, timm.models.ResNet) or not isinstance(backbone.conv1, nn.Conv2d):
        return backbone, arguments, None
    stem = stem or ("small" if image_size < SMALL_STEM_BELOW and not pretrained else "full")
    if stem == "small":
        _small_stem(backbone)
    return backbone, arguments, stem


def _as_accepted(name: str, asked: Arguments, fixed: dict[str, Any]) -> tuple[nn.Module, Arguments]:
    """The network with those of the arguments that its constructor takes."""
    given, state = asked.given(), torch.get_rng_state()
    while True:
        try:
            return timm.create_model(name, **fixed, **given), Arguments(**given)
        except TypeError as error:
            unknown = {k for k in given if "unexpected keyword" in str(error) and f"'{k}'" in str(error)}
            if not unknown:
                raise
            given = {k: value for k, value in given.items() if k not in unknown}
            torch.set_rng_state(state)  # a constructor may have drawn before it refused


def _small_stem(resnet: Any) -> None:
    """The usual stem for small images: a 3x3 convolution of stride 1 and no max-pool."""
    old = resnet.conv1
    resnet.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, 1, 1, bias=False)
    resnet.maxpool = nn.Identity()


def width_of(backbone: nn.Module) -> int:
    """Dimensions of a network's features without its classifier; some widen them in a layer before it."""
    return cast(int, getattr(backbone, "head_hidden_size", None) or backbone.num_features)


def own_size(backbone: nn.Module) -> int | None:
    """The size of the images that timm's network was made for."""
    size = getattr(backbone, "pretrained_cfg", {}).get("input_size")
    return size[-1] if size else None


@contextmanager
def _as_built(name: str, size: int) -> Iterator[None]:
    """Say of a network that cannot be built for a size which one it was made for."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # constructors raise nearly anything
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        cfg = timm.get_pretrained_cfg(name)
        own = cfg.input_size[-1] if cfg else None
        other = "" if own in (None, size) else f"its own size is {own}: give {option('image_size', own)}, or "
        raise UsageError(
            f"{name} cannot be built for images of {size} px ({reason}): {other}another {option('encoder')}."
        ) from error


# --- pretrained weights ---------------------------------------------------------------------------------------


def _require_weights(name: str) -> None:
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise UsageError(
            f"timm has no pretrained weights of '{name}': give {option('init', 'random')}, a file, or another "
            f"{option('encoder')}."
        )


@contextmanager
def _all_loaded(name: str) -> Iterator[None]:
    """As :func:`_reached`; and what timm leaves random, of which it makes a note in its log, is an error.

    Raises: RunError, naming the tensors.
    """
    notes, log = _Notes(), logging.getLogger("timm.models._builder")
    level = log.level
    log.addHandler(notes)
    log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
    try:
        with _reached(name):
            yield
    finally:
        log.setLevel(level)
        log.removeHandler(notes)
    if notes.missing:
        raise RunError(
            f"the pretrained weights of '{name}' lack {plural(len(notes.missing), 'tensor')} of the network: "
            f"{a_few(notes.missing)}. Give a local file ({option('init', 'FILE')}), or another {option('encoder')}."
        )


class _Notes(logging.Handler):
    """What timm has found missing as it loaded weights, but for buffers that each network computes for itself."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.missing: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.match(r"Missing keys \((.*)\)", record.getMessage()):
            computed = ("num_batches_tracked", "_index", "_idxs", "mask")
            self.missing += [key for key in found[1].split(", ") if not key.endswith(computed)]


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Within the block the hub's cache alone is asked where the hub does not answer: its client would try for a minute.

    Raises: RunError in a sentence if the weights are not to be had.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # the hub's and torch's own errors, of several packages
        why = (
            "there is no network, or the hub does not answer"
            if constants.HF_HUB_OFFLINE
            else str(error).split("\n")[0]
        )
        raise RunError(
            f"the pretrained weights of '{name}' could not be fetched ({why or type(error).__name__}). Fetch them once "
            f"where there is network, or give a local file: {option('init', 'FILE')}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    """Whether a server says anything at all, through the proxies and certificates of the hub's own client."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=HUB_SECONDS)
    except Exception:
        return False
    return True
