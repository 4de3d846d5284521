"""Pictures of an evaluation: a few queries with what they find."""

from pathlib import Path

import torch

from isosphere.cli.exam import Exam
from isosphere.evaluation import instance_neighbours
from isosphere.reductions.neighbours import nearest_neighbours
from isosphere.report import neighbour_gallery

__all__ = ["draw_label_neighbours", "draw_view_neighbours"]

ROWS, FOUND = 8, 6


def draw_view_neighbours(exam: Exam, path: Path, *, batch: int = 100) -> None:
    """First views of a few test images, and the second views of the first batch that are nearest to them."""
    count = min(batch, len(exam.test))
    first, second = (features.head[:count] for features in exam.views("trained"))
    rows = torch.linspace(0, count - 1, min(ROWS, count)).round().long()
    found = instance_neighbours(first, second, rows, k=min(FOUND, count), batch=count)
    queries, candidates = exam.pictures("test", count)
    missed = {
        r: (candidates[i], rank)
        for r, (i, rank) in enumerate(zip(rows.tolist(), found.ranks.tolist(), strict=True))
        if i not in found.indices[r]
    }
    neighbour_gallery(
        queries[rows],
        candidates[found.indices],
        path,
        similarities=found.similarities,
        right=found.indices == rows[:, None],
        missed=missed,
        title=f"The other view among {count}",
    )


def draw_label_neighbours(exam: Exam, path: Path) -> None:
    """A test image of each of a few classes, and the training images nearest to it; those of its class are
    framed.
    """
    labels = torch.as_tensor(exam.test.labels)
    classes = labels[labels >= 0].unique()
    chosen = classes[torch.linspace(0, len(classes) - 1, min(ROWS, len(classes))).round().long()]
    rows = torch.stack([(labels == label).nonzero()[0, 0] for label in chosen])
    train, test = exam.centre("trained", "train").backbone, exam.centre("trained", "test").backbone
    similarities, indices = nearest_neighbours(
        torch.nn.functional.normalize(test[rows], dim=1),
        torch.nn.functional.normalize(train, dim=1),
        min(FOUND, len(train)),
    )
    neighbour_gallery(
        exam.test.images[rows],
        exam.train.images[indices],
        path,
        similarities=similarities,
        right=torch.as_tensor(exam.train.labels)[indices] == labels[rows][:, None],
        title="Nearest training images",
    )
