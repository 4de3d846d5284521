"""The rule by which a construction of VJE is chosen, and the verdict on its degrees of freedom, from made-up rows."""

import pytest

pytest.importorskip("matplotlib", reason="claims draw with matplotlib")

from torch import nn

from experiments.claims.vje_construction.__main__ import (
    CONSTRUCTIONS,
    COURSES,
    DEGREES,
    LIMIT,
    SEEDS,
    chosen,
    jobs,
    options,
    verdict,
)
from experiments.methods.cell import DATA, configuration
from experiments.methods.filling import job
from experiments.trained import Cells
from isosphere.training import build

BEST = next(name for name in CONSTRUCTIONS if name.startswith("product") and name.endswith("no norm"))


def row(name, nu, seed, course="CIFAR-10", *, validation=30.0, rate=40.0):
    data, metric, epochs = COURSES[course].data, COURSES[course].metric, COURSES[course].epochs
    key = {k: str(v) for k, v in job(data, "vje", seed, options(name, nu), epochs).items()}
    return key | {"validation": str(validation), metric: str(rate), "collapsed": "False"}


def grid():
    """Every construction at five degrees of freedom; the limit looks best everywhere, which must not matter."""
    rows = []
    for seed in SEEDS:
        for name in CONSTRUCTIONS:
            rows.append(row(name, "5", seed, validation=35.0 + seed if name == BEST else 30.0 + seed))
            rows.append(row(name, LIMIT, seed, validation=90.0, rate=40.0))
    return rows


def test_nothing_is_chosen_before_the_grid_is_full_and_the_limit_is_not_looked_at():
    rows = grid()
    assert chosen(Cells(rows)) == BEST
    assert chosen(Cells(rows[2:])) is None
    assert verdict(rows[2:]).word == "not decided"
    assert len(list(jobs(Cells([])))) == len(SEEDS) * len(CONSTRUCTIONS)
    assert len(list(jobs(Cells(rows)))) == len(SEEDS) * (len(CONSTRUCTIONS) + len(COURSES) * len(DEGREES))


@pytest.mark.parametrize(
    ("of_limit", "word"), [(20.0, "holds"), (40.0, "does not hold"), (60.0, "does not hold")]
)
def test_the_limit_fails_where_it_is_below_by_two_errors(of_limit, word):
    rows = [r for r in grid() if r["options"] != options(BEST, LIMIT)]
    for seed in SEEDS:
        for course in COURSES:
            rows += [
                row(BEST, "5", seed, course, validation=35.0 + seed),
                row(BEST, LIMIT, seed, course, rate=of_limit + 0.1 * seed),
            ]
    found = verdict(rows)
    assert found.word == word
    assert f"Chosen on unseen training images: {BEST}" in found.sentence
    assert "nan" not in found.markdown()


def test_every_construction_is_what_it_says():
    for name, settings in CONSTRUCTIONS.items():
        method = build(configuration(job("cifar10", "vje", 0, f"{settings};data.limit=64"), "digits"))[1]
        assert method.factor.independent == name.startswith("product")
        assert (method.factor.unit == 1.0) == (", 1, " in name)
        norms = {"standardise": "no norm" not in name and "inference" not in name}
        norms["batch_norm"] = "both" in name or "inference" in name
        assert isinstance(method.standardise, nn.BatchNorm1d) == norms["standardise"]
        assert any(isinstance(part, nn.BatchNorm1d) for part in method.head.modules()) == norms["batch_norm"]
    assert DATA["cifar10"].settings["data.limit"] == 6000
