"""A training that begins with given weights: what of the network stays fixed, and which weights it ends with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.methods import Method
from isosphere.models import Encoder
from isosphere.runs import RunFolder
from isosphere.statistics import neighbours_kept, rankme, two_view_hits
from isosphere.training._config import ModelConfig

NEIGHBOURS = 20
"""Whose share that stays is told after each epoch."""

MIXTURES = (0.25, 0.5, 0.75)
"""Shares of the end in the mixtures of start and end that are tried."""

MOST_KEPT = 8
"""Epochs whose kept weights are tried, spread evenly."""

START, END = "the start", "the end"

ERRORS, KEPT = 2.0, 0.6
"""Standard errors by which other weights must find more views than the start, and the share of its neighbours that
they must have kept.
"""

State = dict[str, Tensor]


def encoders_of(method: Method) -> Iterator[nn.Module]:
    """The encoder, and the copies of it that teachers hold."""
    return (part for part in method.modules() if type(part) is type(method.encoder))


def freeze(method: Method, config: ModelConfig) -> None:
    """Keep the stages and batch norms that the configuration names as they are, in the encoder and its copies.

    Raises: UsageError as :meth:`isosphere.models.Encoder.freeze`.
    """
    for encoder in encoders_of(method):
        if isinstance(encoder, Encoder):
            encoder.freeze(config.freeze, batch_norm=config.batch_norm == "frozen")


@dataclass(frozen=True)
class Seen:
    """What can be said of weights without labels, from two fixed views of images that are not trained on.

    ``hits``: for each image how often its other view is the nearest one; ``kept``: for each the share of the start's
    nearest neighbours that still are; ``rank``: effective rank of the features.
    """

    hits: Tensor
    kept: Tensor
    rank: float

    @classmethod
    def of(cls, features: Tensor, start: Tensor) -> "Seen":
        """Of features ``(2, n, p)``, with those of the start."""
        k = min(NEIGHBOURS, features.shape[1] - 1)
        return cls(
            two_view_hits(features), neighbours_kept(start[0], features[0], k), rankme(features[0]).item()
        )

    def as_row(self) -> dict[str, float]:
        """Columns of metrics.csv."""
        return {
            "two_view_recall": self.hits.mean().item(),
            "neighbours_kept": self.kept.mean().item(),
        }


@dataclass(frozen=True)
class Choice:
    """The weights that a run ends with, by name, and why."""

    name: str
    why: str


def choose(found: Mapping[str, Seen]) -> Choice:
    """The start, which comes first, unless others are better by what is seen without labels: their views find each
    other more often, by more than chance explains, and the start's neighbours have stayed.

    Of those the one with the highest two-view Recall@1. Either figure alone misleads: a map that spreads images evenly
    finds views and ruins classes, and what does not move keeps every neighbour. The rule is conservative on purpose
    (experiments/pretrained/fine_tuning.py).
    """
    start, *others = found
    first = found[start]
    taken, reasons = start, []
    for name in others:
        seen = found[name]
        gain = seen.hits - first.hits
        error = gain.std().item() / len(gain) ** 0.5
        clear = gain.mean().item() > ERRORS * error
        if clear and seen.kept.mean() >= KEPT and seen.hits.mean() > found[taken].hits.mean():
            taken = name
        reasons.append(clear)
    before, after = (100 * found[name].hits.mean().item() for name in (start, taken))
    if taken != start:
        kept = 100 * found[taken].kept.mean().item()
        return Choice(
            taken,
            f"two views of a held-out image find each other in {after:.1f} %, at the start in {before:.1f} %, and "
            f"{kept:.0f} % of the start's neighbours have stayed",
        )
    if any(reasons):
        why = f"others find more views, but keep less than {KEPT:.0%} of its neighbours"
    else:
        why = f"nothing else finds clearly more of the other views of held-out images than its {before:.1f} %"
    return Choice(start, why)


@dataclass
class Beginning:
    """Keeps what a training from given weights has begun with, compares, and chooses at the end.

    Args:
        look: the backbone's features ``(2, n, p)`` of two fixed views of images, as the method is now.
    """

    folder: RunFolder
    method: Method
    look: Callable[[], Tensor]
    _start: Tensor | None = field(default=None, repr=False)

    def begin(self, *, fresh: bool) -> None:
        """Look at the start: the network as it is, or of a run that goes on as it was kept; nothing of it changes."""
        if fresh:
            self.keep()
            self._start = self.look()
        elif (kept := self.folder.read_start()) is not None:
            now = tensors_of(self.method)
            put(self.method, kept)
            self._start = self.look()
            put(self.method, now)

    def keep(self) -> None:
        """Keep the weights of now as the start: before the first step, and again when the head has learned."""
        self.folder.write_start(self.method.state_dict())

    def compare(self, features: Tensor) -> dict[str, float]:
        """Two-view Recall@1 and the neighbours kept of the features of a look."""
        return {} if self._start is None else Seen.of(features, self._start).as_row()

    def choose(self) -> Choice:
        """Give the method the weights that the run ends with, and record what was seen of all of them.

        The choice is a function of the kept files and of the method as it is now, so that a run that is stopped here
        makes the same one later.
        """
        found: dict[str, Seen] = {}
        end, start = tensors_of(self.method), self.folder.read_start()
        if start is None:
            return Choice(END, "what it began with is no longer there to compare with")
        for name, state in self.candidates(start, end):
            put(self.method, state)
            features = self.look()
            self._start = features if name == START else self._start
            assert self._start is not None
            found[name] = Seen.of(features, self._start)
        choice = choose(found)
        # Built anew: all of them at once might not fit into memory.
        put(self.method, next(state for name, state in self.candidates(start, end) if name == choice.name))
        rows = [
            {"weights": name, **seen.as_row(), "rankme_features": seen.rank} for name, seen in found.items()
        ]
        self.folder.write_chosen({"weights": choice.name, "why": choice.why, "seen": rows})
        return choice

    def candidates(self, start: State, end: State) -> Iterator[tuple[str, State]]:
        """Start, kept epochs, mixtures of start and end, and the end."""
        yield START, start
        epochs = self.folder.kept_epochs()
        for epoch in epochs[:: -(-len(epochs) // MOST_KEPT) or 1]:
            yield f"epoch {epoch}", self.folder.read_kept(epoch)
        for share in MIXTURES:
            yield f"a mixture ({share:.0%} of the end)", mixture(start, end, share)
        yield END, end


def mixture(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> State:
    """Weights on the line from start to end; counters are the end's.

    *Reference.* Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), 2109.01903.
    """
    return {
        name: start[name].lerp(x.to(start[name]), share) if x.is_floating_point() else x
        for name, x in end.items()
    }


def tensors_of(method: Method) -> State:
    return {name: x.detach().cpu().clone() for name, x in method.state_dict().items() if torch.is_tensor(x)}


@torch.no_grad()
def put(method: Method, state: Mapping[str, Any]) -> None:
    """Put tensors where the method has them."""
    own = method.state_dict()
    for name, x in state.items():
        own[name].copy_(x)
