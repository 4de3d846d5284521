"""Networks that are used as they were given: how they are named, and which are recommended."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from isosphere.errors import IsosphereError, UsageError, option
from isosphere.methods import FROZEN
from isosphere.models import own_start

PREFIX = "timm:"
"""How a network of timm is named where a run is expected: ``timm:NAME``, ``timm:NAME@FILE``."""
_HUB = "hf-hub:"


@dataclass(frozen=True)
class Recommended:
    """A network that is recommended for photographs, with what decides between it and others."""

    parameters: str
    speed: str
    weights: str
    licence: str


RECOMMENDED: dict[str, Recommended] = {
    "tf_efficientnet_lite0": Recommended("3 M", "fast", "supervised, ImageNet-1k", "Apache-2.0"),
    "convnext_nano": Recommended("15 M", "medium", "supervised, ImageNet-12k and 1k", "Apache-2.0"),
    "vit_small_patch14_dinov2": Recommended("22 M", "slow", "self-supervised, LVD-142M", "Apache-2.0"),
}
"""By timm's names; the first is taken where none is named."""
DEFAULT = next(iter(RECOMMENDED))


@dataclass(frozen=True)
class Network:
    """A network of timm, with weights that it has from elsewhere, and the size of the images that these are for."""

    name: str
    init: str
    size: int | None = None

    @classmethod
    def of(cls, name: str | None = None, init: str | Path = "pretrained") -> Self:
        """The network of this name, else that of the weights where they tell it, else the first that is recommended.

        Raises: UsageError for a name or weights that are not there, or that do not go together.
        """
        if str(init) == "random":
            raise UsageError(
                f"{option('init', 'random')}: a network that has seen nothing is no use as it is: give pretrained, or "
                "a file of weights."
            )
        found, size = own_start(name, init)
        if found is None:
            found, size = own_start(DEFAULT, init)
        return cls(found or DEFAULT, str(init), size)

    @classmethod
    def named(cls, given: object) -> Self | None:
        """That of ``timm:NAME[@FILE]`` or ``timm:hf-hub:OWNER/NAME``, None for anything else, such as a run's folder.

        Raises: as :meth:`of`.
        """
        if not is_network(given):
            return None
        text = str(given).removeprefix(PREFIX)
        name, _, file = ("", "", text) if text.startswith(_HUB) else text.partition("@")
        with in_its_words(name):
            return cls.of(None if file.startswith(_HUB) else name, file or "pretrained")

    def __str__(self) -> str:
        if self.init.startswith(_HUB):
            return f"{PREFIX}{self.init}"
        return f"{PREFIX}{self.name}" + ("" if self.init == "pretrained" else f"@{self.init}")

    def config(self, image_size: int | None = None) -> dict[str, Any]:
        """The configuration of the network as it is, as nested values; at its own size unless another is asked for.

        Raises: UsageError where it has none.
        """
        size = image_size or self.size
        if size is None:
            raise UsageError(f"{self.name} has no size of its own: give {option('image_size', 64)}.")
        return {
            "data": {"image_size": size, "canvas_size": size, "channels": "rgb"},
            "model": {"encoder": self.name, "init": self.init},
            "method": {"name": FROZEN},
        }


@contextmanager
def in_its_words(name: str) -> Iterator[None]:
    """Errors within the block as one meets them who has typed ``timm:NAME@FILE``, and no option."""
    try:
        yield
    except IsosphereError as error:
        said = str(error).replace(option("init", "FILE"), f"{PREFIX}{name}@FILE")
        said = said.replace(f"Name that one with {option('encoder')}", f"Name that one: {PREFIX}NAME@FILE")
        raise type(error)(said.replace(f"{option('init')}: ", "")) from error


def is_network(given: object) -> bool:
    """Whether it names a network, not the folder of a run."""
    return isinstance(given, (str, Path)) and str(given).startswith(PREFIX)
