"""The k-NN accuracy that is watched during training, where images have labels; training never sees them."""

from collections.abc import Callable
from typing import Any

from isosphere.data import ImageSet, PictureSet, Source, load_images, load_pictures, permutation
from isosphere.evaluation import extract, knn
from isosphere.training import Parts

BANK, QUERIES = 2048, 512
"""Images whose labels vote, and images that are asked about, at the most."""


def online_knn(parts: Parts) -> tuple[Callable[[Any], dict[str, float]], str] | None:
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

    def probe(method: Any) -> dict[str, float]:
        encoder = method.encoder
        view = (config.data.image_size or 32, encoder.mean, encoder.std)
        found = [extract(method.embed, part, *view, group=False).backbone for part in (bank, asked)]
        return {"knn": knn(found[0], bank.labels, found[1], asked.labels).value}

    period = config.train.knn_epochs
    often = "after each epoch" if period == 1 else f"every {period} epochs and at the end"
    return probe, f"{often}, accuracy of {len(asked):,} images {of} by the labels of {len(bank):,} others"
