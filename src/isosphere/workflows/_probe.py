"""The k-NN accuracy that is watched during training, where images have labels; training never sees them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isosphere.data import ImageSet, PictureSet, Source, load_images, load_pictures, permutation
from isosphere.evaluation import extract, knn_predict
from isosphere.methods import Method
from isosphere.training import Parts

BANK, QUERIES = 2048, 512
"""Images whose labels vote, and images that are asked about, at the most."""


@dataclass(frozen=True)
class KNNProbe:
    """Calls with a method give ``{"knn": accuracy}`` of the images asked about, labelled by those of the bank."""

    bank: ImageSet | PictureSet
    asked: ImageSet | PictureSet
    size: int

    def __call__(self, method: Method) -> dict[str, float]:
        return {"knn": self.right(method).mean().item()}

    def right(self, method: Method) -> Tensor:
        """Whether each of the images asked about that has a label is given its own: float64 ``(n,)``."""
        encoder: Any = method.encoder
        view = (self.size, encoder.mean, encoder.std)
        bank, asked = (
            extract(method.embed, part, *view, group=False).backbone for part in (self.bank, self.asked)
        )
        labels = torch.as_tensor(self.asked.labels)
        predicted = knn_predict(bank, self.bank.labels, asked[labels >= 0])
        return (predicted.cpu() == labels[labels >= 0]).double()


def online_knn(parts: Parts) -> tuple[KNNProbe, str] | None:
    """A probe for `fit` that returns ``{"knn": accuracy}``, and what it looks at in words; None without labels.

    The backbone's features of some images, each seen through the centre view, are labelled by their 20 nearest ones
    among others (:func:`isosphere.evaluation.knn`). Which images: by the seed; asked about are those of the source's
    own test part where it has one, else training images outside the bank.
    """
    config, images = parts.config, parts.images
    labelled = images.has_labels and len(images) >= 4
    if not labelled or config.train.knn_epochs == 0:
        return None
    size, seed = config.data.canvas_size or 32, config.train.seed

    def some(source: Any, chosen: Any) -> ImageSet | PictureSet:
        part = source.subset(chosen.sort().values.numpy())
        if not isinstance(part, Source):
            return part
        return (load_pictures if config.data.whole else load_images)(part, size)

    order = permutation(len(images), seed, 1)
    voters = min(BANK, len(images) // 2)
    bank = some(images, order[:voters])
    test = parts.test
    if test is not None and len(test) > 0 and test.has_labels:
        asked = some(test, permutation(len(test), seed, 1)[:QUERIES])
        of = "of the test part"
    else:
        asked = some(images, order[voters : voters + QUERIES])
        of = "(trained on as well)"

    period = config.train.knn_epochs
    often = "after each epoch" if period == 1 else f"every {period} epochs and at the end"
    probe = KNNProbe(bank, asked, config.data.image_size or 32)
    return probe, f"{often}, accuracy of {len(asked):,} images {of} by the labels of {len(bank):,} others"
