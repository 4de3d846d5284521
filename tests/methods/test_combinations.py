"""Combinations by rule: names that stand for them, any discrepancy beside four methods, a method of one's own."""

import pytest
import torch
from torch import nn

from isosphere.cli import main
from isosphere.discrepancies import DISCREPANCIES, MMD, build_discrepancy
from isosphere.errors import UsageError, for_a_shell
from isosphere.kernels import HeatKernel
from isosphere.methods import (
    METHODS,
    Loss,
    Method,
    Regulariser,
    SimSiam,
    VICReg,
    build_method,
    method,
    option_names,
)
from isosphere.sphere import normalize
from isosphere.training import load_config
from tests.methods.test_contract import DIM, HIDDEN, ROWS, Tiny, some_views, train

ALIASES = [name for name, entry in METHODS.items() if entry.of is not None]
HOSTS = ("byol", "simsiam", "vicreg", "vje")


def made(name, **options):
    torch.manual_seed(0)
    widths = {"hidden": HIDDEN} if name.startswith("vje") else {"dim": DIM, "hidden": HIDDEN}
    return build_method(name, Tiny(), **widths, **options).prepare(n=ROWS, views=2, batch=some_views(0))


@pytest.mark.parametrize("name", ALIASES)
def test_a_name_is_the_combination_that_it_stands_for(name):
    """Typed on the command line as it is listed, it has the same loss."""
    entry = METHODS[name]
    with for_a_shell():
        words = entry.canonical.replace("--set ", "").replace("--", "").split()
    keys = {"method": "method.name", "discrepancy": "method.discrepancy", "ema": "method.ema"}
    sets, values = [], iter(words)
    for word in values:
        sets.append(word if "=" in word else f"{keys[word]}={next(values)}")
    config = load_config(sets=sets)
    assert config.method.name == entry.of
    views = some_views(0)
    ours, theirs = made(name), made(config.method.name, **config.method_options())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours(views).total, theirs(views).total)


@pytest.mark.parametrize("discrepancy", DISCREPANCIES)
@pytest.mark.parametrize("name", HOSTS)
def test_any_discrepancy_can_be_added(name, discrepancy):
    """At a weight of one's own: (1 - w) of the loss, w of the discrepancy, and a gradient of both."""
    config = load_config(
        sets=[f"method.name={name}", f"method.regulariser={discrepancy}", "method.weight=0.25"]
    )
    views = some_views(0)
    # BYOL standardises its projection where nothing else spreads it.
    plain = {"standardise": False} if name == "byol" else {}
    alone, together = made(name, **plain)(views), made(name, **config.method_options())(views)
    expected = 0.75 * alone.total + 0.25 * together.parts["regulariser"]
    torch.testing.assert_close(together.total, expected, rtol=1e-5, atol=1e-6)
    together.total.backward()


@pytest.mark.parametrize("name", HOSTS)
def test_the_weight_of_what_is_added_is_found(name):
    found = made(name, regulariser="mmd-heat", concentration=2.0)
    assert 0 < found.weight < 1
    assert found.spread_setting == ("method.weight", found.weight.item())
    assert found.least_steps == 0
    assert (
        "concentration" in found.describe()["discrepancy"] or "HeatKernel" in found.describe()["discrepancy"]
    )
    with pytest.raises(UsageError, match="expected it with a discrepancy"):
        made(name, weight=0.5)


def test_the_slopes_against_which_it_is_weighed():
    """The gradient of a bare invariance is that of JEPA's, whose slope is 1/2, as many times as its slope is larger."""
    nothing = nn.Identity()
    z = torch.randn(2, 9, DIM, dtype=torch.float64).requires_grad_()
    unit = normalize(z)
    free, on_sphere = ((z - z.mean(0)).square().sum(-1).mean() for z in (z, unit))
    held = Regulariser(MMD(HeatKernel(DIM)))
    vicreg = VICReg(nothing, nothing, variance=0.0, covariance=0.0, regulariser=held)
    simsiam = SimSiam(nothing, nothing, nothing, regulariser=held)
    with torch.no_grad():
        held.weight.zero_()
        held._note()
    for host, loss, jepa in ((vicreg, vicreg.loss(z), free), (simsiam, simsiam.loss(z, z), on_sphere)):
        (ours,) = torch.autograd.grad(loss.total, z, retain_graph=True)
        (theirs,) = torch.autograd.grad(jepa, z, retain_graph=True)
        torch.testing.assert_close(ours, 2 * host._pull(9, 2).slope * theirs)


@pytest.mark.parametrize(
    ("name", "options", "instead"),
    [
        ("kl-ema", {"discrepancy": "susreg"}, "--method jepa --discrepancy susreg --ema 0.996"),
        ("kl-ema", {"discrepancy": "susreg", "ema": 0.9}, "--method jepa --discrepancy susreg --ema 0.9"),
        (
            "kl-deep",
            {"discrepancy": "susreg"},
            "--method jepa --discrepancy susreg --set method.options.features=0.25",
        ),
    ],
)
def test_what_is_suggested_keeps_the_other_options_of_the_name(name, options, instead):
    with for_a_shell(), pytest.raises(UsageError) as refusal:
        build_method(name, Tiny(), **options)
    assert str(refusal.value).endswith(f"give {instead}.")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kl-vmf", {"discrepancy": "mmd-heat"}, "--method jepa --discrepancy mmd-heat"),
        ("byol+mmd", {"regulariser": "kl-vmf"}, "--method byol --set method.regulariser=kl-vmf"),
        ("byol", {"discrepancy": "koleo", "regulariser": "koleo"}, "are the same here"),
        ("jepa", {"discrepancy": "klvmf"}, "Did you mean 'kl-vmf'"),
        ("barlow-twins", {"regulariser": "koleo"}, "has no option 'regulariser'. Its options: weight"),
        ("simclr", {"ema": 0.9}, "has no option 'ema'"),
        ("jepa", {"ema": 0.9, "teacher": 0.9}, "are the same here"),
        ("jepa", {"num_slices": 3}, "has no option 'num_slices'"),
        ("jepa", {"regulariser": "koleo"}, "Its regulariser is --discrepancy koleo."),
        (
            "simclr",
            {"regulariser": "koleo"},
            "Methods that take a discrepancy: byol, distillation, jepa, simsiam, vicreg, vje.",
        ),
        ("byol+mmd", {"estimator": "w"}, "Type --set method.options.estimator=v."),
        ("SimCLR", {}, "Did you mean 'simclr'?"),
        ("jepa", load_config(sets=["method.weight=2"]).method_options(), "strictly between 0 and 1"),
    ],
)
def test_combinations_that_are_none_are_refused_in_words(name, options, words):
    with for_a_shell(), pytest.raises(UsageError) as refusal:
        made(name, **options)
    assert words in str(refusal.value)


def test_what_could_be_changed_under_a_name_still_can():
    assert made("vje+mmd", discrepancy="kl-vmf").describe()["discrepancy"].startswith("KL")
    assert made("mmd-ema", teacher=0.9).teacher.momentum == made("mmd-ema", ema=0.9).teacher.momentum == 0.9
    assert made("byol", discrepancy="koleo").discrepancy.dim == DIM


def test_a_function_of_the_dimension_stands_for_a_discrepancy():
    built = made("jepa", discrepancy=lambda dim: build_discrepancy("mmd-heat", dim, time=0.1), features=0.5)
    assert (built.discrepancy.dim, built.features.discrepancy.dim) == (DIM, Tiny.feature_dim)


def test_a_discrepancy_itself_is_taken_where_its_dimension_fits():
    assert isinstance(made("byol", regulariser=MMD(HeatKernel(DIM))).discrepancy, MMD)
    with pytest.raises(UsageError, match=rf"got MMD of dim={DIM + 1}, expected dim={DIM}"):
        made("byol", regulariser=MMD(HeatKernel(DIM + 1)))
    with pytest.raises(UsageError, match=r'expected .v., .u.\. Give estimator="v"'):
        made("byol+mmd", estimator="w")


def test_a_name_is_registered_once_and_above_the_class_method():
    with pytest.raises(ValueError, match="'simclr', which is a method of isosphere"):
        method("simclr", paper="", summary="")
    with pytest.raises(TypeError, match="above @classmethod"):

        @classmethod
        @method("mine", paper="", summary="")
        def from_encoder(cls, encoder): ...


def test_a_method_of_ones_own_is_a_class(monkeypatch, capsys):
    """Its file is all that the library needs to know of it: it is built, trained, listed and held to its options."""
    monkeypatch.setitem(METHODS, "barycentre", METHODS["jepa"])  # so that it is taken out again

    class Barycentre(Method):
        space = "sphere"

        def __init__(self, encoder, head, *, push: float = 1.0, global_views: int = 2):
            super().__init__(encoder, head, global_views)
            self.push = push

        @method("barycentre", paper="none", summary="views agree, the mean of all is 0")
        @classmethod
        def from_encoder(cls, encoder, *, dim: int = 4, hidden: int = 8, **options):
            return cls(encoder, nn.Linear(encoder.feature_dim, dim), **options)

        def loss(self, z):
            pull, mean = (z - z.mean(0)).square().sum(-1).mean(), z.mean((0, 1)).square().sum()
            return Loss(pull + self.push * mean, {"invariance": pull.detach(), "mean": mean.detach()})

    assert option_names("barycentre") == ["push"]
    config = load_config(sets=["method.name=barycentre", "method.options.push=0.5"])
    built, views = made(config.method.name, **config.method_options()), some_views(0)
    assert built.push == 0.5
    before = built(views)
    assert set(before.parts) == {"invariance", "mean"}
    train(built, views, 5)
    assert built(views).total < before.total
    with pytest.raises(UsageError, match="Did you mean 'push'"):
        made("barycentre", puhs=0.5)
    assert main(["list", "methods"]) == 0
    assert "views agree, the mean of all is 0" in capsys.readouterr().out
