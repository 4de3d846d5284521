"""What is looked at after an epoch: which images, which figures, and that training is not disturbed."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from isosphere.data import ImageSet, Views, open_source, recipe
from isosphere.discrepancies import KL, MMD, SIGReg, Uniformity
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.methods import (
    JEPA,
    METHODS,
    Method,
    build_method,
    expansion_ratio,
    invariance_slope,
    spread_test,
)
from isosphere.models import build_encoder
from isosphere.runs import RunFolder, read_metrics
from isosphere.sphere import sample_uniform
from isosphere.statistics import lidar, rankme
from isosphere.training import (
    CollapseMetrics,
    Observer,
    collapse_metrics,
    fit,
    hold_out,
    load_config,
    prepare,
    verdict,
)

COLUMNS = {
    "cosine",
    "alignment",
    "dimensions",
    "zscore",
    "rankme",
    "rankme_features",
    "lidar",
    "top_variance",
    "top_tenth",
}


def some_images(n=160, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 200, (n, 3, 1, 1), generator=generator)
    grain = torch.randint(0, 56, (n, 3, size, size), generator=generator)
    return (colours + grain).to(torch.uint8)


def image_set(n):
    return ImageSet(some_images(n), np.full(n, -1), [str(i) for i in range(n)])


def observer(n=160):
    return Observer(some_images(n), Views(recipe("crops", 16)), rows=32)


def method_of(name, **options):
    torch.manual_seed(0)
    dim = {} if name.startswith("vje") else {"dim": 16}
    return build_method(name, build_encoder("small-conv", image_size=16), hidden=16, **dim, **options)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_looked_at_and_keeps_its_bits(name):
    method = method_of(name).train()
    before = {k: v.clone() for k, v in method.state_dict().items() if torch.is_tensor(v)}
    state = torch.get_rng_state()
    seen = observer()(method)
    assert torch.equal(torch.get_rng_state(), state)
    assert method.training
    for key, value in before.items():
        assert torch.equal(method.state_dict()[key].nan_to_num(), value.nan_to_num()), key
    assert set(seen.figures) - {"expansion_ratio"} >= COLUMNS - {"zscore"}
    assert all(math.isfinite(value) for value in seen.figures.values())
    assert seen.collapse.as_row().items() <= seen.figures.items()
    assert observer()(method).figures == seen.figures


class Given(Method):
    """Embeddings that were written down beforehand, a row per image, the same in all views."""

    space = "sphere"

    def __init__(self, z, noise=0.0, discrepancy=None):
        super().__init__(nn.Linear(1, 1), nn.Identity())
        self.z, self.noise, self.calls, self.discrepancy = z, noise, 0, discrepancy

    def loss(self, *outputs):
        raise NotImplementedError

    def embed(self, x):
        self.calls += 1
        part = self.z[: len(x)]
        generator = torch.Generator().manual_seed(self.calls)
        z = functional.normalize(part + self.noise * torch.randn(part.shape, generator=generator), dim=1)
        return 2 * z, z


def test_figures_against_their_own_functions():
    z = sample_uniform(200, 12, generator=torch.Generator().manual_seed(0))
    method = Given(z, noise=0.3)
    seen = observer(200)(method).figures
    again = Given(z, noise=0.3)
    views = torch.stack([again.embed(torch.empty(200, 1))[1] for _ in range(2)])
    assert seen["rankme"] == pytest.approx(rankme(views[0]).item())
    assert seen["rankme_features"] == pytest.approx(rankme(2 * views[0]).item())
    assert seen["lidar"] == pytest.approx(lidar(views).item())
    assert seen["alignment"] == pytest.approx(collapse_metrics(*views).alignment)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(views[0].double().T)).flip(0)
    assert seen["top_variance"] == pytest.approx((eigenvalues[0] / eigenvalues.sum()).item())
    assert seen["top_tenth"] == seen["top_variance"]  # a tenth of 12 directions is one
    assert "expansion_ratio" not in seen


@pytest.mark.parametrize("discrepancy", [None, MMD(HeatKernel(32)), KL(VonMisesFisherKernel(32))])
def test_the_z_score_is_two_sided(discrepancy):
    """Uniform rows: within the noise; packed: far above; an orthonormal frame and its opposite: below chance."""
    uniform = sample_uniform(256, 32, generator=torch.Generator().manual_seed(3))
    packed = functional.normalize(uniform + 2 * torch.eye(32)[0], dim=1)
    basis = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0))).Q
    regular = torch.cat([basis, -basis])
    scores = [
        observer(len(z))(Given(z, discrepancy=discrepancy)).figures["zscore"]
        for z in (uniform, packed, regular)
    ]
    assert abs(scores[0]) < 4
    assert scores[1] > 50
    assert scores[2] < -4


def test_which_statistic_it_is():
    assert isinstance(spread_test(method_of("mmd-heat"), 16), MMD)
    assert isinstance(spread_test(method_of("lejepa"), 16), SIGReg)
    assert spread_test(method_of("mmd-heat"), 16).group is False
    for name, options in (("byol", {}), ("simsiam", {}), ("vje", {}), ("byol+mmd", {"place": "features"})):
        test = spread_test(method_of(name, **options), 16)
        assert isinstance(test, MMD)
        assert test.kernel == VonMisesFisherKernel(16, concentration=4.0), name


def test_without_a_discrepancy_the_z_score_is_that_of_uniformity():
    z = functional.normalize(sample_uniform(300, 8, generator=torch.Generator().manual_seed(1)) + 0.05, dim=1)
    ours = spread_test(method_of("byol"), 8).zscore(z).item()
    theirs = Uniformity(dim=8, group=False).zscore(z).item()
    assert ours == pytest.approx(theirs, rel=0.2)


def test_the_expansion_ratio_is_that_of_the_batch():
    method = method_of("mmd-heat", weight=0.3)
    assert isinstance(method, JEPA)
    expected = expansion_ratio(method.discrepancy, 0.3, 32, invariance_slope(2, 0))
    assert observer()(method).figures["expansion_ratio"] == pytest.approx(expected, rel=1e-6)
    assert "expansion_ratio" not in observer()(method_of("mmd-heat")).figures  # the weight is not found yet


def configured(*sets):
    given = ["data.canvas_size=16", "data.image_size=16", *sets]
    return load_config(None, given)


def test_images_are_left_out_of_training_only_where_that_is_cheap():
    many, few = image_set(7000), image_set(6000)
    rest, shown, words = hold_out(configured(), many, 32)
    assert (len(rest), len(shown)) == (6872, 128)
    assert "left out" in words
    assert set(rest.paths).isdisjoint(shown.paths)
    assert set(rest.paths) | set(shown.paths) == set(many.paths)
    same, shown, words = hold_out(configured(), few, 32)
    assert same is few
    assert len(shown) == 128
    assert "trained on as well" in words


def test_how_many_are_looked_at():
    counts = [
        len(hold_out(configured(), image_set(n), dim)[1]) for n, dim in ((4000, 100), (1600, 100), (60, 100))
    ]
    assert counts == [400, 200, 60]
    rest, shown, _ = hold_out(configured("data.held_out=30"), image_set(60), 100)
    assert (len(rest), len(shown)) == (30, 30)


def test_the_division_goes_by_the_seed_and_not_by_the_monitor():
    images = image_set(7000)
    first, off, other = (
        hold_out(configured(*sets), images, 32) for sets in ([], ["train.monitor=false"], ["train.seed=1"])
    )
    assert first[0].paths == off[0].paths != other[0].paths
    assert off[1] is None


def test_a_source_with_a_test_part_is_looked_at_there():
    source = open_source("digits", split="train")
    config = configured("data.source=digits")
    test = open_source("digits", split="test")
    images, shown, words = hold_out(config, source, 16, test=test)
    assert images is source
    assert words == "128 images of the test part"
    assert set(shown.paths) <= set(test.paths)


@pytest.fixture
def squares(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (700, 16, 16, 3), dtype=np.uint8)
    images += generator.integers(0, 190, (700, 1, 1, 3), dtype=np.uint8)
    np.savez(tmp_path / "squares.npz", images=images)
    return str(tmp_path / "squares.npz")


def trained(spec, path, *sets):
    given = {
        "data.source": spec,
        "train.epochs": 1,
        "train.batch_size": 128,
        "data.held_out": 100,
        "views.recipe": "crops",
    }
    given |= {"model.dim": 16, "model.hidden": 16, "train.precision": "float32", "train.device": "cpu"}
    parts = prepare(load_config(None, list(sets), given | {"train.tensorboard": False}))
    torch.manual_seed(0)
    folder = RunFolder.create(path)
    fit(parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric, observer=parts.observer)
    return parts, read_metrics(folder.metrics)


@pytest.mark.parametrize("name", ["sphere-jepa", "byol"])
def test_switching_the_monitor_changes_no_bit_of_training(squares, tmp_path, name):
    on, rows = trained(squares, tmp_path / "on", f"method.name={name}")
    off, none = trained(squares, tmp_path / "off", f"method.name={name}", "train.monitor=false")
    assert off.observer is None
    assert len(on.images) == len(off.images) == 600
    assert "left out of training" in on.facts["monitor"]
    assert set(rows[-1]) >= COLUMNS
    assert all(math.isfinite(float(rows[-1][key])) for key in COLUMNS)
    assert not COLUMNS & set(none[-1])
    first, second = on.method.state_dict(), off.method.state_dict()
    assert [k for k, v in first.items() if torch.is_tensor(v) and not torch.equal(v, second[k])] == []
    assert [row["total"] for row in rows] == [row["total"] for row in none]


def test_embeddings_that_move_together_are_reported_at_once():
    start = CollapseMetrics(0.93, 0.4, 5.0, 64)
    packed = CollapseMetrics(0.996, 0.4, 4.0, 64)
    said = verdict(packed, progress=0.01, steps=23, spread_setting=("method.weight", 0.05), start=start)
    assert said is not None
    assert said.startswith("Collapse: the embeddings of different images are moving together")
    assert "0.996, at the start 0.93" in said
    assert 'set={"method.weight": 0.095} (now 0.05)' in said
    assert verdict(packed, progress=0.01, steps=23) is None
    assert verdict(packed, progress=0.01, steps=10, start=start) is None
    assert verdict(CollapseMetrics(0.96, 0.4, 4.0, 64), progress=0.01, steps=23, start=start) is None
    without = verdict(packed, progress=0.01, steps=23, start=start)
    assert without is not None
    assert "no weight" in without


def test_a_line_is_a_collapse_of_dimensions():
    line = torch.linspace(-1, 1, 100)[:, None] * torch.eye(32)[0] + 1e-3 * torch.randn(100, 32)
    z = functional.normalize(line, dim=1)
    state = collapse_metrics(z, z)
    assert abs(state.cosine) < 0.1
    assert state.most == 32
    said = verdict(state, progress=0.5, steps=1000)
    assert said is not None
    assert said.startswith("Collapse of dimensions: the embeddings lie along 1 direction(s) of 32")
    assert verdict(CollapseMetrics(0.0, 1.0, 1.2, 4), progress=0.5, steps=1000) is None


def test_images_to_choose_weights_by_are_left_out_of_training():
    weights = ["model.init=w.pth", "train.load_best=true"]
    for n, held in ((8000, 512), (700, 87), (40, 5)):
        rest, shown, words = hold_out(configured(*weights, "train.monitor=false"), image_set(n), 128)
        assert (len(rest), len(shown)) == (n - held, held)
        assert set(rest.paths).isdisjoint(shown.paths)
        assert "left out of training" in words
    rest, shown, _ = hold_out(configured(*weights, "train.batch_size=40"), image_set(40), 128)
    assert (len(rest), len(shown)) == (40, 5)  # a batch is needed first
    source, test = open_source("digits", split="train"), open_source("digits", split="test")
    rest, shown, _ = hold_out(configured("data.source=digits", *weights), source, 16, test=test)
    assert set(shown.paths) <= set(source.paths) - set(rest.paths)
