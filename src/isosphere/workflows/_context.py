"""What an evaluation compares on what: the images, the models, and their features."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from isosphere.data import (
    Source,
    copied,
    decode_batch,
    digests,
    images_at,
    read_images,
    require_readable,
    settle_reading,
    visible_channels,
)
from isosphere.deploy import Layer
from isosphere.devices import placed
from isosphere.errors import IsosphereError, RunError, option, plural
from isosphere.evaluation import (
    WCCN,
    FeatureCache,
    Features,
    Look,
    Progress,
    Solver,
    centre_key,
    centre_look,
    first_two,
    look_through,
    unpacked,
    views_look,
)
from isosphere.methods import Method
from isosphere.models import layer_blocks
from isosphere.runs import tensor_identity
from isosphere.training import untrained
from isosphere.workflows import _features as features
from isosphere.workflows._ranks import Ranks
from isosphere.workflows._splits import Splits
from isosphere.workflows._trained import Trained

VIEW_SEED = 0
"""All runs are evaluated on the same views, whatever seed they were trained with."""
PIXEL_SIDE = 32
"""Of the pixel baseline."""
DESCRIBED = 2000
"""Training images by which the descriptor is brought to a common scale."""

_TRIED = 10
"""Images that the cache knows to be unreadable are read again, so many of them, to say why."""

_OF_IMAGES = "images"
"""Stands for the weights in the keys of what is computed of the images alone."""


@dataclass(frozen=True)
class Need:
    """Rows that a task will ask for: of a part (``train``, ``test``, ``described``, an OOD set), by a look
    (``trained/centre``, ``untrained/views``, ``trained/scores``, ``trained/last4``, ``pixels``, ``descriptor``).
    """

    part: str
    look: str


class EvaluationContext:
    """The images, models and features of an evaluation; rows are computed when first asked for, and kept.

    What tasks :meth:`plan` to ask for is computed together: a part's images are decoded once. Models are called
    ``trained`` and, the same network as it was before training, ``untrained`` (``initial`` where training began from
    given weights). On several ranks rank 0 asks and judges, the others :meth:`serve`.
    """

    def __init__(
        self,
        run: Trained,
        splits: Splits,
        ood: Mapping[str, Source] | None = None,
        *,
        ranks: Ranks | None = None,
        cache: FeatureCache | None = None,
        strict: bool = False,
        workers: int = 2,
        layers: Sequence[str] = (),
        judged: Layer | None = None,
        probe: Solver = "lbfgs",
        baselines: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.run, self.splits, self.ood = run, splits, dict(ood or {})
        self.ranks, self.cache = ranks or Ranks(), cache
        self.blocks = {layer: layer_blocks(run.encoder, layer) for layer in layers}
        self.judged: Layer = run.layers[0] if judged is None else run.check_layer(judged)
        """The output of the run that is held against the others."""
        self.spread: Layer = "head" if judged is None and run.has_head else self.judged
        """Where embeddings are to be spread, and the other view of an image is sought."""
        self.probe: Solver = probe
        self.baselines = baselines
        self.note: str | None = None
        self.skipped: dict[str, list[tuple[str, str]]] = {}
        self._strict, self._workers, self._progress = strict, workers, progress
        described = splits.train.subset(range(min(DESCRIBED, len(splits.train))))
        parts = {"train": splits.train, "test": splits.test, "described": described, **self.ood}
        reading, self.white = settle_reading(splits.train, run.reading)
        own = {"train", "described"}
        self._sources = {
            name: source.read_as(reading if name in own else settle_reading(source, reading)[0])
            for name, source in parts.items()
        }
        self._planned: dict[str, list[str]] = {}
        self._positions: dict[str, Tensor] = {}
        self._rows: dict[tuple[str, str], dict[str, Tensor]] = {}
        self._digests: dict[str, Tensor] = {}
        self._identities: dict[str, str] = {}
        self._epoch: tuple[str, Method] | None = None

    # --- models -----------------------------------------------------------------------------------------------

    @property
    def baseline(self) -> str:
        """What the network before training is called."""
        return "untrained" if self.run.config.model.init == "random" else "initial"

    @property
    def device(self) -> torch.device:
        """Where this process computes: where the run is, or of several processes on a GPU of its own."""
        return self.run.device if self.ranks.world == 1 else self.ranks.device

    @cached_property
    def models(self) -> dict[str, Method]:
        """The models that are compared; the one before training is left out where baselines are or nothing was trained,
        and with a note where its first weights are gone.
        """
        found = {"trained": self.run.method.to(self.device)}
        if not self.baselines or self.run.frozen:
            return found
        try:
            found[self.baseline] = untrained(self.run.config, self.run.encoder.spec()).to(self.device)
        except IsosphereError as error:
            self.note = f"The network as it was before training cannot be had again ({error})"
        return found

    def model(self, name: str) -> Method:
        """A model by its name, or the method as it was after an epoch whose weights were kept: ``epoch-10``."""
        if name in self.models:
            return self.models[name]
        if self._epoch is None or self._epoch[0] != name:
            kept = Trained.read(self.run.folder.path, epoch=int(name.removeprefix("epoch-")), cache=False)
            self._epoch = name, kept.method.to(self.device)
        return self._epoch[1]

    def identity(self, name: str) -> str:
        """Digest of a model's weights. What was kept of weights that the run no longer has is removed."""
        if name not in self._identities:
            self._identities[name] = self.run.digest(self.model(name))
            known = {*self.models, *(f"epoch-{epoch}" for epoch in self.run.folder.kept_epochs())}
            own = self.run.role == "student"  # what was kept of the student stays when the teacher is judged
            if self.cache is not None and self.baselines and own and known <= set(self._identities):
                self.cache.forget_others([_OF_IMAGES, *self._identities.values()])
        return self._identities[name]

    @property
    def wccn(self) -> WCCN | None:
        """Within-class covariance normalisation of the trained encoder's features, if the run has it."""
        return self.run.metric

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The outputs of the run that every task has a look at, the one that is judged first."""
        others: list[Layer] = [layer for layer in self.run.layers if layer not in (self.judged, "wccn")]
        return (self.judged, *others)

    def layers_of(self, model: str) -> tuple[Layer, ...]:
        """The outputs of a model, that where embeddings are to be spread first."""
        if model == "trained":
            return (self.spread, *(layer for layer in self.layers if layer != self.spread))
        return ("head", "backbone") if self.spread == "head" else ("backbone", "head")

    # --- rows -------------------------------------------------------------------------------------------------

    def output(self, layer: Layer, part: str) -> Tensor:
        """An output of the run for a part's images, each in its centre view: ``(n, p)``."""
        return self.run.select(self.centre("trained", part), layer)

    def centre(self, model: str, part: str) -> Features:
        """Features of the deterministic centre view of a part's images."""
        return unpacked(self.rows(part, f"{model}/centre"))[0]

    def views(self, model: str, part: str = "test") -> list[Features]:
        """Features of the first two views that the run's own recipe draws of each image."""
        return unpacked(self.rows(part, f"{model}/views"))

    def tokens(self, layer: str, part: str) -> Tensor:
        """The trained encoder's class tokens of the blocks that a layer such as ``last4`` names: ``(n, p)``."""
        return self.rows(part, f"trained/{layer}")["tokens"]

    def scores(self, part: str) -> dict[str, Tensor]:
        """The trained method's own scores, larger for familiar images, ``(n,)`` each; empty if it has none."""
        if not self.has_scores:
            return {}
        found = self.rows(part, "trained/scores")
        return {name[4:]: found[name] for name in sorted(found)}

    @property
    def has_scores(self) -> bool:
        """Whether the trained method scores images by itself."""
        return getattr(self.models["trained"], "scores", None) is not None

    def labels(self, part: str) -> Tensor:
        """Labels of a part's readable images, int64 ``(n,)``, -1 for none."""
        return torch.as_tensor(self._sources[part].labels)[self.positions(part)]

    def count(self, part: str) -> int:
        """Readable images of a part."""
        return len(self.positions(part))

    def positions(self, part: str) -> Tensor:
        """Positions of the readable images in a part's source."""
        if part not in self._positions:
            self.rows(part, "trained/centre")
        return self._positions[part]

    def several_classes(self, part: str = "test") -> bool:
        """Whether there are labels, and images of more than one class."""
        labels = self.labels(part)
        return self.splits.labelled and len(labels[labels >= 0].unique()) > 1

    def plan(self, needs: Iterable[Need]) -> None:
        """Say what will be asked for, so that each part is decoded once."""
        for need in needs:
            planned = self._planned.setdefault(need.part, [])
            if need.look not in planned:
                planned.append(need.look)

    def rows(self, part: str, look: str) -> dict[str, Tensor]:
        """The rows of a look at a part's images, by name: from memory, from the cache, or computed now."""
        if (part, look) not in self._rows:
            wanted = dict.fromkeys([look, *self._planned.pop(part, [])])
            todo = [
                name for name in wanted if (part, name) not in self._rows and not self._recalled(part, name)
            ]
            if todo:
                self._compute(part, todo)
        return self._rows[part, look]

    def forget(self, model: str) -> None:
        """Let go of a model's rows, which are needed no more."""
        self._rows = {key: rows for key, rows in self._rows.items() if not key[1].startswith(f"{model}/")}

    def serve(self) -> None:
        """Do this rank's share of what rank 0 asks for, until it needs nothing more."""
        for part, *looks in self.ranks.requests():
            self._read(part, looks)

    def _compute(self, part: str, looks: list[str]) -> None:
        self.ranks.request(part, *looks)
        found = self._read(part, looks)
        assert found is not None
        self._positions[part], self.skipped[part] = found.positions, found.skipped
        for look, rows in found.rows.items():
            self._require_finite(part, look, rows, found.positions)
            self._place(part, look, rows)
            if self.cache is not None:
                made = {**rows, "positions": found.positions}
                self.cache.keep(self._key(part, look), made, digests=self._content(part))

    def _place(self, part: str, look: str, rows: Mapping[str, Tensor]) -> None:
        """Keep rows where they will be judged, if there is room."""
        self._rows[part, look] = {name: placed(x, self.device) for name, x in rows.items()}

    def _require_finite(self, part: str, look: str, rows: Mapping[str, Tensor], positions: Tensor) -> None:
        """Raises: RunError if the encoder gives numbers that no figure can be computed from."""
        broken = torch.zeros(len(positions), dtype=torch.bool)
        for x in rows.values():
            if x.is_floating_point():
                broken |= ~torch.isfinite(x).reshape(len(x), -1).all(1).cpu()
        if count := int(broken.sum()):
            first = self._sources[part].paths[int(positions[broken][0])]
            raise RunError(
                f"the {look.partition('/')[0]} encoder gives numbers that are not finite for {plural(count, 'image')}, "
                f"the first of them {first}: leave them out, or train anew with a lower "
                f"{option('optim.learning_rate')}."
            )

    def _recalled(self, part: str, look: str) -> bool:
        """Whether the cache has these rows, which are then in memory."""
        if self.cache is None:
            return False

        def check(positions: Tensor) -> Mapping[str, Tensor]:
            few = read_images(self._sources[part].subset(positions.numpy()), self.run.canvas)
            batches = [(few.images, positions)] if len(few) == len(positions) else []
            return look_through(batches, {look: self._look(look)}, capacity=len(few), device=self.device)[
                look
            ]

        found = self.cache.find(self._key(part, look), digests=self._content(part), check=check)
        if found is None or "positions" not in found:
            return False
        positions = found.pop("positions")
        self._positions[part] = positions
        self._place(part, look, found)
        if part not in self.skipped:
            source = self._sources[part]
            lost = sorted(set(range(len(source))) - set(positions.tolist()))
            why = decode_batch(source, self.run.canvas, lost[:_TRIED]).failed
            lines = [(source.paths[i], why.get(i, "could not be read")) for i in lost]
            self.skipped[part] = lines + source.unreadable
            require_readable(source, len(positions), self.skipped[part], strict=self._strict)
        return True

    def content(self, part: str) -> str:
        """Digest of a part's images and labels, wherever they lie."""
        labels = tensor_identity(torch.as_tensor(self._sources[part].labels))
        return hashlib.blake2b(
            f"{tensor_identity(self._content(part))} {labels}".encode(), digest_size=8
        ).hexdigest()

    def copies(self) -> list[str]:
        """Sentences on copies among the training and test images, where their contents were looked at."""
        if not {"train", "test"} <= self._digests.keys():
            return []
        train, test = self.splits.train, self.splits.test
        contents = self._digests["train"].numpy(), self._digests["test"].numpy()
        return copied(*contents, (train.labels, test.labels), (train.paths, test.paths))

    def _content(self, part: str) -> Tensor:
        if part not in self._digests:
            self._digests[part] = torch.from_numpy(digests(self._sources[part]))
        return self._digests[part]

    def _read(self, part: str, looks: Sequence[str]) -> features.Reading | None:
        return features.read(
            self._sources[part],
            {name: self._look(name) for name in looks},
            canvas=self.run.canvas,
            device=self.device,
            ranks=self.ranks,
            strict=self._strict,
            workers=self._workers,
            progress=self._progress,
        )

    def _look(self, name: str) -> Look:
        size = self.run.size
        if name == "pixels":
            return features.pixel_look(self.pixel_side)
        if name == "descriptor":
            return features.descriptor_look(self.two_views, self.run.views.recipe, VIEW_SEED)
        model, _, kind = name.partition("/")
        method = self.model(model)
        if kind == "centre":
            mean, std = self.run.encoder.mean, self.run.encoder.std
            return centre_look(method.embed, size, mean, std, passes=self.run.passes)
        if kind == "views":
            return views_look(method.embed, self.two_views, seed=VIEW_SEED)
        if kind == "scores":
            return features.scores_look(method, size)
        return features.tokens_look(self.run.encoder, size, self.blocks[kind])

    def _key(self, part: str, look: str) -> dict[str, Any]:
        model, _, kind = look.rpartition("/")
        weights = self.identity(model) if model else _OF_IMAGES
        pixels = self.run.key if kind == "centre" else self.run.pixels.key
        pixels = pixels | {"white": self._sources[part].reading.white}
        key = centre_key(weights, pixels, device=self.device)
        if kind in ("views", "descriptor"):
            kind = f"{kind}, two, seed {VIEW_SEED}: {self.run.views.recipe!r}"
        elif kind == "pixels":
            kind = f"pixels, {self.pixel_side}"
        return key | {"kind": kind}

    # --- pictures ---------------------------------------------------------------------------------------------

    @property
    def pixel_side(self) -> int:
        """Side of the pixel baseline."""
        return min(PIXEL_SIDE, self.run.size)

    @cached_property
    def two_views(self):
        """The first two views of the run's recipe."""
        return first_two(self.run.views)

    def images(self, part: str, rows: Tensor) -> Tensor:
        """A few images of a part, by their rows: uint8 ``(k, channels, canvas, canvas)``."""
        return images_at(self._sources[part], self.positions(part)[rows].tolist(), self.run.canvas)

    def shown(self, part: str, rows: Tensor) -> Tensor:
        """The same as people see them: ``(k, 3 or 1, canvas, canvas)``."""
        return visible_channels(self.images(part, rows))

    def view_pictures(self, part: str, rows: Tensor) -> list[Tensor]:
        """The two views of a few images, as pictures in [0, 1]."""
        pixels, index = self.images(part, rows), self.positions(part)[rows]
        drawn = features.pictures(self.two_views, self.run.views.recipe, pixels, index, VIEW_SEED)
        return [visible_channels(view) for view in drawn]
