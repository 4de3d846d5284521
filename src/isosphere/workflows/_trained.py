"""A run read back: its configuration and its method, ready to be applied."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast, get_args

import torch
from torch import Tensor

from isosphere.atomic import make_folder
from isosphere.data import Source, Views, cache_folder, located, require_there
from isosphere.deploy import Embedder, Role, pixels_of
from isosphere.errors import IsosphereError, RunError, UsageError, command, option
from isosphere.evaluation import WCCN, FeatureCache
from isosphere.methods import FROZEN, Frozen, Method
from isosphere.models import Adaptation, Encoder
from isosphere.runs import RunFolder, tensors_identity
from isosphere.training import START, Config, build, build_views, load_method, parse_config, require_device
from isosphere.workflows._networks import Network, in_its_words

IN_MEMORY = re.compile(r"\w+ of [\d,]+ images")
"""What :func:`isosphere.train` calls images that it was given in memory."""


DATA = "DATA"
"""Stands in commands for images that nobody knows the place of."""


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Embedder):
    """What evaluation and reports need of a run; :class:`isosphere.Run` adds what people do with it.

    `method` is in evaluation mode. `epoch` is that of the weights where they are not the last ones; `images` are those
    it was trained on, where they were given in Python; `network` is what it is where it is no run.
    """

    config: Config = field(kw_only=True)
    method: Method = field(kw_only=True)
    epoch: int | None = field(default=None, kw_only=True)
    images: Source | None = field(default=None, kw_only=True)
    network: Network | None = field(default=None, kw_only=True)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        cache: bool = True,
        epoch: int | None = None,
        network: str = "student",
    ) -> Self:
        """The run in a folder, or a network of timm by its name; arguments and errors as of :func:`isosphere.load`."""
        if device is not None:
            require_device(device, "device")
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if (given := Network.named(path)) is not None:
            with in_its_words(given.name):
                return cls.as_it_is(given, device=where, cache=cache).of_role(network)
        folder = RunFolder.open(path)
        config, method = load_method(folder, epoch=epoch)
        kept = FeatureCache(folder.path / "features") if cache else None
        width = cast(Encoder, method.encoder).feature_dim
        metric = WCCN.of_run(folder, width) if epoch is None else None  # it belongs to the last weights
        adaptation = _adaptation_of(folder, width)
        more: dict[str, Any] = {"cache": kept, "metric": metric, "adaptation": adaptation, "epoch": epoch}
        return cls.of(folder, config, method.to(where), **more).of_role(network)

    @classmethod
    def as_it_is(
        cls, network: Network, *, device: str = "cpu", cache: bool = True, image_size: int | None = None
    ) -> Self:
        """A network of timm with the weights that it came with. What is kept of it lies in the user's cache, by their
        digest: features, indexes of searches, figures.

        Raises: UsageError or RunError for a network or weights that are not to be had.
        """
        config = parse_config(network.config(image_size))
        config, method = build(config)
        weights = tensors_identity(cast(Encoder, method.encoder).state_dict())
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in network.name)
        folder = RunFolder(cache_folder() / "networks" / f"{name}-{config.data.image_size}-{weights[:16]}")
        with suppress(OSError, IsosphereError):  # without a cache it is only slower
            make_folder(folder.path)
            folder.write_config(config.model_dump(mode="json", exclude_unset=True))
        kept = FeatureCache(folder.path / "features") if cache else None
        return cls.of(folder, config, method.eval().to(device), cache=kept, network=network)

    @classmethod
    def of(cls, folder: RunFolder, config: Config, method: Method, **more: Any) -> Self:
        """A run of its parts; `more` are further fields by name."""
        encoder, size = cast(Encoder, method.encoder), config.data.image_size or 32
        pixels = pixels_of(encoder, size, config.data.canvas_size or size, config.data.reading)
        return cls(
            folder,
            method.embed,
            encoder,
            size,
            pixels.canvas,
            _settings(config, method),
            config=config,
            reading=pixels.reading,
            method=method,
            has_head=not isinstance(method, Frozen),
            posterior=_posterior_of(method),
            **more,
        )

    def of_role(self, name: str) -> Self:
        """The same run with the network of this name, ``student`` or ``teacher``. What was fitted to the student's
        features is not the teacher's.

        Raises: UsageError for another name, or a method without a teacher.
        """
        if name not in get_args(Role):
            raise UsageError(f"{option('network')}: got '{name}', expected {' or '.join(get_args(Role))}.")
        if name == self.role:
            return self
        if name == "student":
            return type(self).read(self.folder.path, device=str(self.device), epoch=self.epoch)
        try:
            method = self.method.of_teacher()
        except ValueError:
            named = self.called if self.frozen else f"{self.called} ({self.config.method.name})"
            raise UsageError(
                f"{option('network', name)}: {named} was trained without a slow teacher: leave {option('network')} "
                f"out, or train with one, {option('ema', 0.996)}."
            ) from None
        encoder = cast(Encoder, method.encoder)
        return replace(
            self,
            encode=method.embed,
            encoder=encoder,
            method=method,
            metric=None,
            adaptation=None,
            role="teacher",
        )

    @property
    def is_last(self) -> bool:
        """Whether it holds the weights that the run ended with: those of an epoch, and of the teacher, stand beside."""
        return self.epoch is None and self.role == "student"

    @property
    def frozen(self) -> bool:
        """Whether the network is used as it was given, not trained here."""
        return self.config.method.name == FROZEN

    @property
    def standing(self) -> str:
        """What its network is where it was not trained here: ``frozen``, or ``unchanged``, where a training ended with
        the weights that it had begun with; else empty.
        """
        if self.frozen:
            return FROZEN
        kept = self.is_last and self.folder.read_chosen().get("weights") == START
        return "unchanged" if kept else ""

    @property
    def called(self) -> str:
        """What a command calls it: its folder, or the network's name."""
        return str(self.folder.path) if self.network is None else str(self.network)

    @property
    def views(self) -> Views:
        """The views it was trained on."""
        return build_views(self.config, self.encoder)

    @property
    def trained_on(self) -> str:
        """The images of the training as a command names them: as they were typed, or where they lay, and ``DATA`` where
        they are no longer there; empty where it cannot be gone on with.
        """
        if not self.folder.checkpoint.exists():
            return ""
        source, known = self.config.data.source or "", self.folder.read_images()
        in_memory = self.images is not None or not source or IN_MEMORY.fullmatch(source)
        recorded = known.get("source") == source
        kept = str(known.get("location") or "") if recorded else ""
        if in_memory or (recorded and not kept):
            return DATA
        if kept and is_there(kept):
            return source if located(source) == kept else kept
        return source if is_there(source) else DATA


def _settings(config: Config, method: Method) -> tuple[object, ...]:
    """What features depend on beside weights and pixels."""
    if isinstance(method, Frozen):  # wherever the weights lay
        spec = cast(Encoder, method.encoder).spec()
        return spec["name"], spec.get("arguments")
    return tuple(part.model_dump(mode="json") for part in (config.model, config.method))


def _posterior_of(method: Method) -> Callable[[Tensor], Tensor] | None:
    """Backbone features ``(n, p)`` to means and variances ``(n, 2 d)``; None for a method without a posterior."""
    of_features = getattr(method, "posterior", None)
    if of_features is None:
        return None

    def both(features: Tensor) -> Tensor:
        found = of_features(features)
        return torch.cat([found.mean, found.variance], -1)

    return both


def _adaptation_of(folder: RunFolder, dim: int) -> Adaptation | None:
    """That of a run, for features of `dim` numbers; None where it has none. Raises: RunError if it is damaged, or
    belongs to another network.
    """
    state = folder.read_adaptation()
    if state is None:
        return None
    try:
        found = Adaptation.from_state(state)
    except ValueError:
        found = None
    if found is None or found.dim != dim:
        again = command("adapt", "DATA", out=folder.path, overwrite=True)
        raise RunError(f"{folder.adaptation} is none of a network of {dim} features. Adapt it again: {again}")
    return found


def is_there(data: str) -> bool:
    """Whether a text names images: a built-in, or a place where something is."""
    try:
        require_there(data)
    except UsageError:
        return False
    return True
