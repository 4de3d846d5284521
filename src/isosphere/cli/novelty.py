"""The task ``ood``: does the encoder tell images of other sets from unseen ones of its own?"""

from isosphere.cli.exam import Exam
from isosphere.cli.judgement import Judgement, Section, percent
from isosphere.errors import UsageError
from isosphere.evaluation import Estimate, detection, novelty
from isosphere.evaluation.ood import SCORES

__all__ = ["judge_ood"]

NEIGHBOUR, SHRINKAGE = 50, 1e-3
_WORDS = {
    "knn": f"distance to {NEIGHBOUR}th neighbour",
    "mahalanobis": "Mahalanobis distance",
    "class-cosine": "cosine to nearest class mean",
    "norm": "short features",
}


def judge_ood(exam: Exam) -> Judgement:
    """AUROC, AUPR and FPR at 95 % TPR against each foreign set of four distances and of the method's own scores;
    foreign is positive.
    """
    if not exam.outside:
        raise UsageError("the task ood needs images of another kind: add --ood DATA, once for each set.")
    labels = exam.train.labels if exam.sets.labelled else None
    figures: dict[str, Estimate] = {}
    sections = []
    own = exam.scores("test")
    for name in exam.outside:
        rows = []
        for who, layer, words in _contenders(exam):
            train, inside, foreign = (
                getattr(exam.centre(who, part), layer) for part in ("train", "test", name)
            )
            mine, theirs = (
                novelty(train, x, train_y=labels, k=NEIGHBOUR, shrinkage=SHRINKAGE) for x in (inside, foreign)
            )
            for score in SCORES:
                made = detection(mine[score], theirs[score])
                figures |= {f"{who}/{layer}/{name}/{score}/{metric}": value for metric, value in made.items()}
                rows.append([f"{words}, {_WORDS[score]}", *(percent(value) for value in made.values())])
        foreign_own = exam.scores(name)
        for score in own:
            made = detection(-own[score], -foreign_own[score])
            figures |= {f"trained/method/{name}/{score}/{metric}": value for metric, value in made.items()}
            rows.append([f"the method's own score, {score}", *(percent(value) for value in made.values())])
        title = f"{exam.outside[name].name} against the {len(exam.test):,} test images, % [95 %]"
        sections.append(
            Section(title, ["encoder, score", "AUROC", "AUPR out", "AUPR in", "FPR at 95 % TPR"], rows)
        )
    return Judgement.of(
        sections,
        figures=figures,
        protocol={
            "positive": "out of distribution",
            "sets": {name: source.name for name, source in exam.outside.items()},
            "images": {name: len(source) for name, source in exam.outside.items()},
            "train_images": len(exam.train),
            "test_images": len(exam.test),
            "neighbour": NEIGHBOUR,
            "shrinkage": SHRINKAGE,
            "classes": labels is not None,
            "own_scores": list(own),
            "division": exam.sets.division,
        },
    )


def _contenders(exam: Exam) -> list[tuple[str, str, str]]:
    found = [("trained", "backbone", "trained encoder"), ("trained", "head", "its head")]
    if "untrained" in exam.methods:
        found.append(("untrained", "backbone", f"{exam.untrained_name} encoder"))
    return found
