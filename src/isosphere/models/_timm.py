"""timm's networks as backbones: which there are, how they are built at a size, how wide their features are."""

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from isosphere.errors import RunError, UsageError, listing, nearest, option, plural
from isosphere.models._hub import HUB, reached
from isosphere.models._record import Arguments, Stem
from isosphere.models._small_conv import SMALL_CONV
from isosphere.models._weights import a_few

# Below this size a residual network's 7x7 stem and max-pool would leave a handful of positions.
SMALL_STEM_BELOW = 80

_UNPOOLED = "_enc"
"""Ending of the names of encoders of language models, which give a row per patch and no vector."""
_OF_OTHER_SIZES = {"vit_so400m_patch14_siglip_384", "vit_so400m_patch14_siglip_gap_384"}
"""Made for a size that is no multiple of their patch; they take 378 px."""


@cache
def timm_names() -> tuple[str, ...]:
    """Names of timm's networks that give a vector of features of an image of the size that they are made for."""
    import timm

    names = timm.list_models()
    return tuple(n for n in names if not n.endswith(_UNPOOLED) and n not in _OF_OTHER_SIZES)


def require_name(name: str) -> None:
    """Raises: UsageError if timm has no such network, none with such a tag, or it gives no vector."""
    import timm

    if ":" in name:
        raise UsageError(
            f"{option('encoder', name)}: an encoder has a name of timm's. Weights of the Hub, or of a folder, are "
            f"given by {option('init', name if name.startswith(HUB) else 'PATH')}, and tell their encoder."
        )
    if not timm.is_model(name):
        hint = nearest(name, [SMALL_CONV, *timm_names()])
        raise UsageError(f"Unknown encoder '{name}'.{hint} See {listing('encoders')}.")
    architecture, _, tag = name.partition(".")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = a_few(one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*"))
        raise UsageError(
            f"timm has no weights '{tag}' of {architecture}. Known: {known or 'none'}."
        ) from None
    if name.endswith(_UNPOOLED):
        raise UsageError(
            f"{name} gives a row per patch, and one vector an image is needed: give {option('encoder', name[:-4])}, "
            "which pools them."
        )


def require_drop_path(name: str) -> None:
    """Raises: UsageError if a network has no stochastic depth to set, such as our own."""
    import timm

    if name != SMALL_CONV:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                timm.create_model(name, drop_path_rate=0.1)
                return
            except TypeError:
                pass
    raise UsageError(
        f"{name} has no stochastic depth (drop_path_rate): leave {option('model.drop_path', 0)}, or take a network "
        f"that has it, {option('encoder', 'vit_small_patch8_224')}."
    )


def build_timm(
    name: str,
    *,
    image_size: int,
    in_chans: int,
    pretrained: bool = False,
    stem: Stem | None = None,
    arguments: Arguments | None = None,
    extra: Arguments | None = None,
) -> tuple[nn.Module, Arguments, Stem | None]:
    """A network by name without its classifier, with the arguments that its constructor took and its stem.

    Args:
        stem: of a residual network; None: the small one below 80 pixels, unless its weights are timm's. Other networks
            have one stem, and None for it.
        arguments: those of an earlier call, to build the same again; None: the constructor is asked which it takes of
            the size.
        extra: further ones, which it has to take.

    Raises: UsageError for an unknown name, or a size that the network cannot be built for; RunError if pretrained
        weights cannot be had.
    """
    import timm

    require_name(name)
    given = {} if extra is None else extra.of_the_network
    fixed: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, **given}
    if pretrained:
        _require_weights(name)
    with _all_loaded(name, image_size) if pretrained else _as_built(name, image_size):
        if arguments is None:
            asked = Arguments(img_size=image_size, dynamic_img_size=True, strict_img_size=False)
            backbone, sizes = _as_accepted(name, asked, {**fixed, "pretrained": pretrained})
            arguments = Arguments(**{**given, **sizes.given()})
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
    import timm

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
    import timm

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
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise UsageError(
            f"timm has no pretrained weights of '{name}': give {option('init', 'random')}, a file, or another "
            f"{option('encoder')}."
        )


@contextmanager
def _all_loaded(name: str, size: int) -> Iterator[None]:
    """As :func:`reached`; and what timm leaves random is an error.

    Raises: RunError, naming the tensors; UsageError if the weights are of a size that timm cannot resample.
    """
    import timm

    with _noted() as missing, reached(name):
        try:
            yield
        except RuntimeError as error:
            if not (wrong := re.findall(r"size mismatch for (\S+?):", str(error))):
                raise
            cfg = timm.get_pretrained_cfg(name)
            own = ... if cfg is None else cfg.input_size[-1]
            raise UsageError(
                f"the pretrained weights of '{name}' do not fit images of {size} px ({a_few(wrong)}): give "
                f"{option('image_size', own)}, or another {option('encoder')}."
            ) from error
    if missing:
        raise RunError(
            f"the pretrained weights of '{name}' lack {plural(len(missing), 'tensor')} of the network: "
            f"{a_few(missing)}. Give a local file ({option('init', 'FILE')}), or another {option('encoder')}."
        )


def adapted(
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    own: Mapping[str, Tensor],
    in_chans: int,
    arguments: Arguments,
) -> dict[str, Tensor]:
    """Weights of timm's network as its own loading makes them of those of a file: resampled to the size of the images,
    under its names, for its channels; `own` are such as it has. Without those that the file does not have; such as do
    not fit are as in the file.
    """
    given, odd = {key: _biases(x, own.get(key)) for key, x in tensors.items()}, dict[str, Tensor]()
    while given:
        try:
            return {**_loaded(name, given, in_chans, arguments), **odd}
        except RuntimeError as error:
            wrong = [key for key in re.findall(r"size mismatch for (\S+?):", str(error)) if key in given]
            if not wrong:
                break
            odd |= {key: given.pop(key) for key in wrong}
        except (KeyError, AttributeError, TypeError, ValueError, IndexError, AssertionError):
            break  # of names that timm's reader of another library's files has missed
    return dict(tensors)


def _biases(found: Tensor, own: Tensor | None) -> Tensor:
    """A table of attention biases by distance, as those of LeViT and EfficientFormer, at another size of the image.
    Timm resamples it in some of the networks that have one.
    """
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_levit

    square = found.ndim == 2 and math.isqrt(found.shape[1]) ** 2 == found.shape[1]
    if own is None or not square or own.shape == found.shape or own.shape[:1] != found.shape[:1]:
        return found
    return resize_rel_pos_bias_table_levit(found.T, own.shape[::-1]).T.contiguous()


def _loaded(
    name: str, tensors: Mapping[str, Tensor], in_chans: int, arguments: Arguments
) -> dict[str, Tensor]:
    """The state of the network that timm has loaded, without what it left random."""
    import timm

    cfg = timm.get_pretrained_cfg(name)
    first = cfg.first_conv if cfg is not None and isinstance(cfg.first_conv, str) else ""
    kernel = tensors.get(f"{first}.weight")
    channels = 3 if kernel is None or kernel.ndim != 4 else kernel.shape[1]
    overlay = {
        "state_dict": dict(tensors),
        "input_size": (channels, *(cfg.input_size if cfg is not None else (3, 224, 224))[1:]),
        # No other source, and other classes than here: what else is in the file is then no error.
        **{"url": None, "file": None, "hf_hub_id": None, "source": None, "custom_load": False},
        **{"num_classes": 1, "classifier": (cfg and cfg.classifier) or "none"},
    }
    options = {"num_classes": 0, "in_chans": in_chans, **arguments.given()}
    with torch.random.fork_rng(devices=[]), _noted() as missing:
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    return {key: x for key, x in network.state_dict().items() if key not in missing}


@contextmanager
def _noted() -> Iterator[list[str]]:
    """What timm finds missing as it loads weights within the block, of which it makes a note in its log."""
    notes, log = _Notes(), logging.getLogger("timm.models._builder")
    level, handed_on = log.level, log.propagate
    log.addHandler(notes)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with warnings.catch_warnings(action="ignore"):  # of timm's resampling
            yield notes.missing
    finally:
        log.setLevel(level)
        log.propagate = handed_on
        log.removeHandler(notes)


class _Notes(logging.Handler):
    """What timm has found missing as it loaded weights, but for buffers that each network computes for itself."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.missing: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.match(r"Missing keys \((.*)\)", record.getMessage()):
            computed = ("num_batches_tracked", "_index", "_idxs", "mask")
            self.missing += [key for key in found[1].split(", ") if not key.endswith(computed)]
