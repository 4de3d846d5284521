"""What is compared on what: the images of an evaluation, and the features of those who take part."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from isosphere.cli.sets import Sets
from isosphere.data import ImageSet, Source, load_images
from isosphere.errors import IsosphereError
from isosphere.evaluation import Features, extract, extract_views
from isosphere.evaluation.cache import FeatureCache, tensor_identity, weights_identity
from isosphere.evaluation.linear import Solver
from isosphere.methods import Method
from isosphere.models import Encoder
from isosphere.models.tokens import class_tokens, layer_blocks
from isosphere.training import Run, untrained

__all__ = ["VIEW_SEED", "Exam"]

Progress = Callable[[int, int], None]
Encode = Callable[[Tensor], tuple[Tensor, Tensor] | Tensor]
VIEW_SEED = 0
"""All runs are judged on the same views, whatever seed they were trained with."""


class Exam:
    """Images and features, each computed when first asked for.

    Contestants are called ``trained`` and ``untrained``: the second is the same network as the run's seed
    initialised it, which is what training has to improve on.
    """

    def __init__(
        self,
        run: Run,
        sets: Sets,
        *,
        device: torch.device,
        progress: Progress,
        outside: Mapping[str, Source] | None = None,
        strict: bool = False,
        cache: FeatureCache | None = None,
        layers: Sequence[str] = (),
        probe: Solver = "lbfgs",
    ) -> None:
        self.run, self.sets, self.device, self.cache = run, sets, device, cache
        self.blocks = {layer: layer_blocks(run.encoder, layer) for layer in layers}
        self.probe: Solver = probe
        self.outside = dict(outside or {})
        self.note: str | None = None
        self._progress, self._strict = progress, strict
        self._centre: dict[tuple[str, str], Features] = {}
        self._views: dict[tuple[str, str], list[Features]] = {}
        self._tokens: dict[tuple[str, str], Tensor] = {}
        self._held: tuple[str, ImageSet] | None = None
        self._contents: dict[str, str] = {}

    @cached_property
    def methods(self) -> dict[str, Method]:
        """The contestants; the untrained one is left out, with a note, where its first weights are gone."""
        found = {"trained": self.run.method.to(self.device)}
        try:
            found["untrained"] = untrained(self.run).to(self.device)
        except IsosphereError as error:
            self.note = f"The network as it was before training cannot be had again ({error})"
        return found

    @cached_property
    def train(self) -> ImageSet:
        """Training images in memory."""
        return self._read(self.sets.train)

    @cached_property
    def test(self) -> ImageSet:
        """Test images in memory."""
        return self._read(self.sets.test)

    @property
    def size(self) -> int:
        """Side of the network's input."""
        return self.run.config.data.image_size or 32

    @property
    def untrained_name(self) -> str:
        """What the second contestant is to a reader."""
        return "untrained" if self.run.config.model.init == "random" else "initial"

    def centre(self, who: str, part: str) -> Features:
        """Features of the deterministic centre view of the ``train`` or ``test`` images, or of a foreign set."""
        if (who, part) not in self._centre:
            found = self._cached(
                who, part, "centre", lambda: _packed([self._extract(self.methods[who].embed, part)])
            )
            self._centre[who, part] = _unpacked(found)[0]
        return self._centre[who, part]

    def tokens(self, layer: str, part: str) -> Tensor:
        """The trained encoder's class tokens of the blocks that a layer such as ``last4`` names: (n, p)."""
        if (layer, part) not in self._tokens:
            blocks, encoder = self.blocks[layer], self.methods["trained"].encoder

            def encode(x: Tensor) -> Tensor:
                return class_tokens(cast(Encoder, encoder), x, blocks)

            self._tokens[layer, part] = self._cached(
                "trained", part, layer, lambda: {"tokens": self._extract(encode, part).backbone}
            )["tokens"]
        return self._tokens[layer, part]

    def _extract(self, encode: Encode, part: str) -> Features:
        encoder = self.run.encoder
        return extract(
            encode,
            self._images(part),
            self.size,
            encoder.mean,
            encoder.std,
            device=self.device,
            progress=self._progress,
        )

    def scores(self, part: str) -> dict[str, Tensor]:
        """The trained method's own scores of a part's centre views, larger for familiar images; empty if it has none.

        Shape: each (n,).
        """
        score = getattr(self.methods["trained"], "scores", None)
        if score is None:
            return {}

        def compute() -> dict[str, Tensor]:
            names: list[str] = []

            def encode(x: Tensor) -> Tensor:
                found = score(x)
                names[:] = found
                return torch.stack(list(found.values()), 1)

            columns = self._extract(encode, part).backbone
            # The file sorts names: the position restores the method's order.
            return {
                f"{i:03d} {name}": x.clone()
                for i, (name, x) in enumerate(zip(names, columns.unbind(1), strict=True))
            }

        found = self._cached("trained", part, "scores", compute)
        return {key[4:]: found[key] for key in sorted(found)}

    def views(self, who: str, part: str = "test") -> list[Features]:
        """Features of the first two views that the run's own recipe draws of each image."""
        if (who, part) not in self._views:

            def compute() -> dict[str, Tensor]:
                return _packed(
                    extract_views(
                        self.methods[who].embed,
                        self._images(part),
                        self.two_views,
                        seed=VIEW_SEED,
                        device=self.device,
                        progress=self._progress,
                    )
                )

            recipe = f"two views, seed {VIEW_SEED}: {self._recipe_views.recipe!r}"
            self._views[who, part] = _unpacked(self._cached(who, part, recipe, compute))
        return self._views[who, part]

    def _cached(
        self, who: str, part: str, kind: str, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """What is computed of a part's images by a contestant, kept from one evaluation to the next."""
        if self.cache is None:
            return compute()
        if part not in self._contents:
            self._contents[part] = tensor_identity(self._images(part).images)
        encoder = self.run.encoder
        key = {
            "weights": self._weights[who],
            "images": self._contents[part],
            "kind": kind,
            "size": self.size,
            "mean": encoder.mean,
            "std": encoder.std,
            "device": str(self.device.type),
        }
        return self.cache.get(key, compute)

    @cached_property
    def _weights(self) -> dict[str, str]:
        sections = [getattr(self.run.config, part).model_dump(mode="json") for part in ("model", "method")]
        found = {who: weights_identity(method, *sections) for who, method in self.methods.items()}
        if self.cache is not None:
            self.cache.forget_others(found.values())
        return found

    def two_views(self, images: Tensor, *, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        """The first two views of the run's recipe."""
        return self._recipe_views(images, index=index, epoch=epoch, seed=seed)[:2]

    def pictures(self, part: str, count: int | None = None) -> list[Tensor]:
        """The same two views as pictures in [0, 1], of the first `count` images."""
        images = getattr(self, part).images[:count]
        recipe = self._recipe_views.recipe
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (recipe.mean, recipe.std))
        columns: list[list[Tensor]] = [[], []]
        for start in range(0, len(images), 256):
            block = images[start : start + 256]
            drawn = self.two_views(
                block, index=torch.arange(start, start + len(block)), epoch=0, seed=VIEW_SEED
            )
            for column, view in zip(columns, drawn, strict=True):
                column.append((view * std + mean).clamp(0, 1))
        return [torch.cat(column) for column in columns]

    @cached_property
    def _recipe_views(self):
        return self.run.views

    def _images(self, part: str) -> ImageSet:
        return self._foreign(part) if part in self.outside else getattr(self, part)

    def _foreign(self, name: str) -> ImageSet:
        """The images of a foreign set; one of them is kept in memory at a time."""
        if self._held is None or self._held[0] != name:
            self._held = name, self._read(self.outside[name])
        return self._held[1]

    def _read(self, source: Source) -> ImageSet:
        size = self.run.config.data.canvas_size or self.size
        return load_images(source, size, strict=self._strict, progress=self._progress)


def _packed(views: list[Features]) -> dict[str, Tensor]:
    return {f"{layer}/{v}": getattr(x, layer) for v, x in enumerate(views) for layer in ("backbone", "head")}


def _unpacked(found: Mapping[str, Tensor]) -> list[Features]:
    return [Features(found[f"backbone/{v}"], found[f"head/{v}"]) for v in range(len(found) // 2)]
