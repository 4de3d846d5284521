"""Pictures of an evaluation: a few queries with what they find. Only what is shown is decoded."""

from pathlib import Path

import torch

from isosphere.evaluation import instance_neighbours
from isosphere.reductions import nearest_neighbours
from isosphere.report import neighbour_gallery
from isosphere.workflows._context import EvaluationContext

ROWS, FOUND = 8, 6


def draw_view_neighbours(context: EvaluationContext, path: Path, *, batch: int = 100) -> None:
    """First views of a few test images, and the second views of the first batch that are nearest to them."""
    count = min(batch, context.count("test"))
    views = context.views("trained")
    first, second = (context.run.select(features, context.spread)[:count] for features in views)
    rows = torch.linspace(0, count - 1, min(ROWS, count)).round().long()
    found = instance_neighbours(first, second, rows, k=min(FOUND, count), batch=count)
    shown = torch.cat([rows[:, None], found.indices], 1)
    one, two = context.view_pictures("test", shown.flatten())
    size = one.shape[1:]
    right = found.indices == rows[:, None]
    targets = two.view(*shown.shape, *size)[:, 0]
    missed = {
        i: (targets[i], int(rank)) for i, rank in enumerate(found.ranks.tolist()) if not bool(right[i].any())
    }
    neighbour_gallery(
        one.view(*shown.shape, *size)[:, 0],
        two.view(*shown.shape, *size)[:, 1:],
        path,
        similarities=found.similarities,
        right=right,
        missed=missed,
        title=f"The other view among {count}",
    )


def draw_label_neighbours(context: EvaluationContext, path: Path) -> None:
    """A test image of each of a few classes, and the training images nearest to it; those of its class are framed."""
    labels = context.labels("test")
    classes = labels[labels >= 0].unique()
    chosen = classes[torch.linspace(0, len(classes) - 1, min(ROWS, len(classes))).round().long()]
    rows = torch.stack([(labels == label).nonzero()[0, 0] for label in chosen])
    train, test = (context.output(context.judged, part) for part in ("train", "test"))
    similarities, found = nearest_neighbours(test[rows], train, min(FOUND, len(train)), cosine=True)
    images = context.shown("train", found.flatten().cpu())
    neighbour_gallery(
        context.shown("test", rows),
        images.view(*found.shape, *images.shape[1:]),
        path,
        similarities=similarities,
        right=context.labels("train")[found.cpu()] == labels[rows][:, None],
        title="Nearest training images",
    )
