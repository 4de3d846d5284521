"""How uncertain a run is of an image: in Python, in a file, beside what a search finds, and for foreign images."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import isosphere
from isosphere.cli import app
from isosphere.data import open_source
from isosphere.deploy import read_embeddings
from isosphere.errors import UsageError

OF_DIGITS = {"data.limit": 200, "train.batch_size": 50, "train.tensorboard": False, "train.knn_epochs": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    def train(method):
        out = tmp_path_factory.mktemp("uncertain") / method
        settings = OF_DIGITS | {"model.hidden": 32}
        return isosphere.train("digits", out, method=method, epochs=2, set=settings, progress=False)

    return {method: train(method) for method in ("vje", "vi-simsiam", "kl-vmf")}


@pytest.fixture
def digits():
    return open_source("digits", split="test").subset(range(40))


def test_posterior_is_that_of_the_method(trained, digits):
    run = trained["vje"]
    both = run.embed(digits, layer="posterior")
    features = torch.from_numpy(run.embed(digits, layer="backbone"))
    found = run.method.posterior(features)
    dim = run.method.head.in_dim
    assert both.shape == (40, 2 * dim)
    np.testing.assert_allclose(both[:, :dim], found.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both[:, dim:], found.log_variance.exp(), rtol=1e-4, atol=1e-5)
    assert (both[:, dim:] >= run.method.factor.floor**2).all()
    np.testing.assert_allclose(run.uncertainty(digits), both[:, dim:].mean(1), rtol=1e-4)


def test_uncertainty_of_vi_simsiam_is_one_minus_the_mean_resultant_length(trained, digits):
    """The mean of the cosine under (1 + c)^kappa (1 - c^2)^((d - 3)/2), by quadrature."""
    run = trained["vi-simsiam"]
    found = run.uncertainty(digits)[:4]
    pixels = run.square(digits.subset(range(4)))
    features = torch.from_numpy(run.features(pixels, layer="backbone"))
    z = run.method.head(features)
    _, direction, concentration = run.method._split(torch.cat([z, run.method.predictor(z)], -1))
    d = direction.shape[1]
    c = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1]
    for kappa, value in zip(concentration.double(), found, strict=True):
        log = kappa * c.log1p() + (d - 3) / 2 * (c.log1p() + (-c).log1p())
        weight = (log - log.max()).exp()
        assert value == pytest.approx(1 - (weight * c).sum().item() / weight.sum().item(), rel=1e-3)


def test_other_methods_say_so_in_one_sentence(trained, digits):
    run = trained["kl-vmf"]
    with pytest.raises(UsageError, match="trained by kl-vmf, which does not say how uncertain"):
        run.uncertainty(digits)
    with pytest.raises(UsageError, match="no posterior, which only VJE learns"):
        run.embed(digits, layer="posterior")
    (matches,) = run.search(digits.subset([0]), digits, k=2)
    assert [m.uncertainty for m in matches] == [None, None]
    assert "uncertainty" not in matches[0].as_dict()


def test_a_posterior_is_embedded_and_not_compared(trained, digits):
    run = trained["vje"]
    for compared in (
        lambda: run.index(digits, layer="posterior"),
        lambda: run.dedup(digits, layer="posterior"),
    ):
        with pytest.raises(UsageError, match="no cosine compares"):
            compared()
    assert "posterior" not in run.layers


def test_a_search_says_how_uncertain_the_run_is_of_what_it_found(trained, digits):
    run = trained["vje"]
    values = run.uncertainty(digits)
    for matches in run.search(digits.subset([3, 7]), digits, k=3):
        for match in matches:
            assert match.uncertainty == pytest.approx(values[match.row], rel=1e-4)
            assert match.as_dict()["uncertainty"] == pytest.approx(match.uncertainty, abs=1e-6)


def test_on_the_command_line(trained, digits, tmp_path):
    from PIL import Image

    run, folder = trained["vje"], tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        digits.image(i).convert("RGB").resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    out = tmp_path / "p.npz"
    said = CliRunner().invoke(
        app, ["embed", str(run.folder.path), str(folder), "-o", str(out), "--layer", "posterior"]
    )
    assert said.exit_code == 0, said.output
    dim = run.method.head.in_dim
    assert read_embeddings(out).values.shape == (8, 2 * dim)
    find = ["search", str(run.folder.path), str(folder / "0.png"), "--in", str(folder), "-k", "3"]
    shown = CliRunner().invoke(app, find)
    assert shown.exit_code == 0, shown.output
    assert "uncertainty" in shown.output
    found = json.loads(CliRunner().invoke(app, [*find, "--json"]).output)
    assert all(match["uncertainty"] > 0 for match in found["matches"])
    other = trained["kl-vmf"].folder.path
    assert "uncertainty" not in CliRunner().invoke(app, ["search", str(other), *find[2:]]).output
    refused = CliRunner().invoke(app, ["search", *find[1:], "--layer", "posterior"])
    assert isinstance(refused.exception, UsageError)


def test_foreign_images_are_told_by_it_beside_distances(trained, digits):
    found = trained["vje"].evaluate(
        "digits", tasks="ood", ood="textures:wood?count=10&test=30", limit=60, progress=False
    )["ood"]
    assert {"variance", "elbo"} <= {f.variant for f in found.find(layer="method", metric="auroc")}
    assert "mahalanobis" in {f.variant for f in found.find(layer="backbone", metric="auroc")}
