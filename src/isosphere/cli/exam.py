"""What is compared on what: the images of an evaluation, and the features of those who take part."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from isosphere.cli.sets import Sets
from isosphere.cli.team import Team
from isosphere.data import ImageSet, Source, Views
from isosphere.errors import IsosphereError, RunError
from isosphere.evaluation import Features, ViewMetric, extract, extract_views, load_shares
from isosphere.evaluation.cache import FeatureCache, centre_key, image_digests, weights_identity
from isosphere.evaluation.features import MakesViews, first_two, packed, unpacked
from isosphere.evaluation.linear import Solver
from isosphere.methods import Method
from isosphere.models import Encoder
from isosphere.models.tokens import class_tokens, layer_blocks
from isosphere.runs import RunFolder
from isosphere.training import Config, build_views, load_method, untrained

__all__ = ["VIEW_SEED", "Exam", "Run", "load_run"]

Progress = Callable[[int, int], None]
Encode = Callable[[Tensor], tuple[Tensor, Tensor] | Tensor]
VIEW_SEED = 0
"""All runs are judged on the same views, whatever seed they were trained with."""


@dataclass(frozen=True)
class Run:
    """A run's configuration, its method in evaluation mode with the trained weights, and its folder."""

    config: Config
    method: Method
    folder: RunFolder

    @property
    def encoder(self) -> Encoder:
        """The backbone alone."""
        return cast(Encoder, self.method.encoder)

    @property
    def views(self) -> Views:
        """The views it was trained on."""
        return build_views(self.config, self.encoder)


def load_run(path: str | Path) -> Run:
    """Read a run folder."""
    folder = RunFolder.open(path)
    return Run(*load_method(folder), folder)


class Exam:
    """Images and features, each computed when first asked for.

    Contestants are called ``trained`` and ``untrained``: the second is the same network as the run's seed
    initialised it, which is what training has to improve on. Of a team of processes the first one asks and
    judges, the others :meth:`serve` it: each decodes and encodes its share of the images.
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
        team: Team | None = None,
    ) -> None:
        self.team = team or Team()
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
        self._kept: tuple[str, Method] | None = None
        self._shares: dict[str, Tensor] = {}
        self._contents: dict[str, Tensor] = {}
        self._weights: dict[str, str] = {}

    @cached_property
    def methods(self) -> dict[str, Method]:
        """The contestants; the untrained one is left out, with a note, where its first weights are gone."""
        found = {"trained": self.run.method.to(self.device)}
        try:
            found["untrained"] = untrained(self.run.config).to(self.device)
        except IsosphereError as error:
            self.note = f"The network as it was before training cannot be had again ({error})"
        return found

    def serve(self) -> None:
        """Do one's share of what the first process asks for, until it has finished."""
        for job, *words in self.team.jobs():
            if job == "read":
                with suppress(RunError):  # the first process says so
                    self._read(*words)
            else:
                self._compute(*words)

    def method(self, who: str) -> Method:
        """A contestant, or the method as it was after an epoch of which the weights were kept: ``epoch-10``."""
        if who in self.methods:
            return self.methods[who]
        if self._kept is None or self._kept[0] != who:
            _, method = load_method(self.run.folder, epoch=int(who.removeprefix("epoch-")))
            self._kept = who, method.to(self.device)
        return self._kept[1]

    def forget(self, who: str) -> None:
        """Let go of a contestant's features, which are needed no more."""
        for kept in (self._centre, self._views):
            for key in [key for key in kept if key[0] == who]:
                del kept[key]

    @cached_property
    def train(self) -> ImageSet:
        """Training images in memory."""
        return self._asked("train")

    @cached_property
    def test(self) -> ImageSet:
        """Test images in memory."""
        return self._asked("test")

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
            self._centre[who, part] = unpacked(self._features(who, part, "centre"))[0]
        return self._centre[who, part]

    @cached_property
    def metric(self) -> ViewMetric | None:
        """The metric that the trained encoder's views gave at the end of its training, if the run has one."""
        return ViewMetric.of_run(self.run.folder)

    def tokens(self, layer: str, part: str) -> Tensor:
        """The trained encoder's class tokens of the blocks that a layer such as ``last4`` names: (n, p)."""
        if (layer, part) not in self._tokens:
            self._tokens[layer, part] = self._features("trained", part, layer)["tokens"]
        return self._tokens[layer, part]

    def scores(self, part: str) -> dict[str, Tensor]:
        """The trained method's own scores of a part's centre views, larger for familiar images; empty if it has none.

        Shape: each (n,).
        """
        if getattr(self.methods["trained"], "scores", None) is None:
            return {}
        found = self._features("trained", part, "scores")
        return {key[4:]: found[key] for key in sorted(found)}

    def views(self, who: str, part: str = "test") -> list[Features]:
        """Features of the first two views that the run's own recipe draws of each image."""
        if (who, part) not in self._views:
            self._views[who, part] = unpacked(self._features(who, part, "views"))
        return self._views[who, part]

    def _features(self, who: str, part: str, kind: str) -> dict[str, Tensor]:
        """What is computed of a part's images by a contestant, kept from one evaluation to the next."""
        pixels = self._images(part).images

        def compute() -> dict[str, Tensor]:
            self.team.say("compute", who, part, kind)
            return self._compute(who, part, kind)

        if self.cache is None:
            return compute()
        if part not in self._contents:
            self._contents[part] = image_digests(pixels)
        encoder = self.run.encoder
        recipe = f"two views, seed {VIEW_SEED}: {self._recipe_views.recipe!r}"
        key = centre_key(
            self._identity(who), size=self.size, mean=encoder.mean, std=encoder.std, device=self.device
        )
        if kind != "centre":
            key["kind"] = recipe if kind == "views" else kind
        return self.cache.get(key, compute, digests=self._contents[part])

    def _compute(self, who: str, part: str, kind: str) -> dict[str, Tensor]:
        """Features by the name of their kind, together with the other processes."""
        pixels, encoder, method = self._shares[part], self.run.encoder, self.method(who)
        shared: dict[str, Any] = {"device": self.device, "progress": self._progress}

        def centre(encode: Encode) -> Features:
            return extract(encode, pixels, self.size, encoder.mean, encoder.std, **shared)

        if kind == "centre":
            return packed([centre(method.embed)])
        if kind == "views":
            return packed(extract_views(method.embed, pixels, self.two_views, seed=VIEW_SEED, **shared))
        if kind == "scores":
            return _scores(method, centre)
        blocks, own = self.blocks[kind], cast(Encoder, method.encoder)
        return {"tokens": centre(lambda x: class_tokens(own, x, blocks)).backbone}

    def _identity(self, who: str) -> str:
        """Digest of a contestant's weights. What was computed with weights that the run no longer has is removed."""
        if who not in self._weights:
            sections = [
                getattr(self.run.config, part).model_dump(mode="json") for part in ("model", "method")
            ]
            self._weights[who] = weights_identity(self.method(who), *sections)
            known = {*self.methods, *(f"epoch-{epoch}" for epoch in self.run.folder.kept_epochs())}
            if self.cache is not None and known <= set(self._weights):
                self.cache.forget_others(self._weights.values())
        return self._weights[who]

    @cached_property
    def two_views(self) -> MakesViews:
        """The first two views of the run's recipe."""
        return first_two(self._recipe_views)

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
            self._held = name, self._asked(name)
        return self._held[1]

    def _asked(self, part: str) -> ImageSet:
        self.team.say("read", part)
        found = self._read(part)
        assert found is not None
        return found

    def _read(self, part: str) -> ImageSet | None:
        """Decode a part together with the other processes; the first one gets all of it."""
        self._shares = {name: kept for name, kept in self._shares.items() if name not in self.outside}
        source = self.outside[part] if part in self.outside else getattr(self.sets, part)
        size = self.run.config.data.canvas_size or self.size
        found, self._shares[part] = load_shares(source, size, strict=self._strict, progress=self._progress)
        return found


def _scores(method: Method, centre: Callable[[Encode], Features]) -> dict[str, Tensor]:
    names: list[str] = []

    def encode(x: Tensor) -> Tensor:
        found = cast(Any, method).scores(x)
        names[:] = found
        return torch.stack(list(found.values()), 1)

    columns = centre(encode).backbone.unbind(1)
    # The file sorts names: the position restores the method's order. A process without images has no names.
    return {f"{i:03d} {name}": x.clone() for i, (name, x) in enumerate(zip(names, columns, strict=False))}
