"""The task ``unlabelled``: figures by which runs can be ranked without labels."""

import torch

from isosphere.cli.exam import VIEW_SEED, Exam
from isosphere.cli.judgement import Judgement, number, percent
from isosphere.errors import UsageError
from isosphere.evaluation import Estimate, unlabelled
from isosphere.evaluation.unlabelled import HIGHER_IS_BETTER

__all__ = ["judge_unlabelled"]

BATCH, LEAST = 100, 20
_WORDS = {
    "recall@1": "other view found among {batch}, %",
    "rankme": "RankMe, at most {most}",
    "lidar": "LiDAR, at most {most}",
    "uniformity": "uniformity (-4: spread)",
    "alignment": "squared distance of two views",
}


def judge_unlabelled(exam: Exam) -> Judgement:
    """Two-view retrieval, RankMe, LiDAR, uniformity, alignment of head and backbone, to rank runs by."""
    count = len(exam.test)
    if count < LEAST:
        raise UsageError(
            f"the task unlabelled needs at least {LEAST} test images, and there are {count}: leave it out."
        )
    batch = min(BATCH, count)
    found: dict[str, dict[str, Estimate]] = {}
    columns, dims = ["without labels"], {}
    for who in exam.methods:
        for layer in ("head", "backbone"):
            z = getattr(exam.centre(who, "test"), layer)
            pair = torch.stack([getattr(view, layer) for view in exam.views(who)])
            found[f"{who}/{layer}"] = unlabelled(z, pair, batch=batch)
            columns.append(f"{'trained' if who == 'trained' else exam.untrained_name}, {layer}")
            dims[layer] = z.shape[1]
    most = ", ".join(f"{layer} {min(count - 1, d)}" for layer, d in dims.items())
    rows = []
    for name, higher in HIGHER_IS_BETTER.items():
        words = f"{_WORDS[name].format(batch=batch, most=most)}; {'high' if higher else 'low'} is good"
        write = percent if name == "recall@1" else number
        rows.append([words, *(write(figures[name]) for figures in found.values())])
    return Judgement(
        title=f"Without labels, {count:,} test images [95 %]",
        columns=columns,
        rows=rows,
        figures={f"{key}/{name}": value for key, all_ in found.items() for name, value in all_.items()},
        protocol={
            "images": count,
            "batch": batch,
            "dimensions": dims,
            "image_size": exam.size,
            "views": exam.run.config.views.model_dump(mode="json"),
            "view_seed": VIEW_SEED,
            "uniformity_t": 2.0,
            "division": exam.sets.division,
        },
    )
