"""A run's features after WCCN: where it is kept, who uses it, and what a run without it says."""

import shutil

import numpy as np
import pytest
import torch

import isosphere
from isosphere import RunTransformer
from isosphere.data import open_source
from isosphere.deploy import embed_to_file, export, read_embeddings
from isosphere.errors import UsageError
from isosphere.evaluation import WCCN

from .conftest import picture


@pytest.fixture
def measured(trained, tmp_path):
    """A copy of the run with some WCCN of its 256 features."""
    folder = shutil.copytree(trained, tmp_path / "run")
    metric = WCCN.fit(torch.randn(2, 400, 256) * torch.linspace(1, 9, 256))
    isosphere.load(folder, device="cpu").folder.write_wccn({"mean": metric.mean, "basis": metric.basis})
    return isosphere.load(folder, device="cpu")


def by_hand(run, images):
    features = torch.from_numpy(run.embed(images))
    return ((features - run.metric.mean) @ run.metric.basis).numpy()


def test_the_features_are_mapped_wherever_they_are_asked_for(measured, pictures, tmp_path):
    folder = pictures([f"{i}.png" for i in range(6)])
    expected = by_hand(measured, folder)
    assert not np.allclose(expected, measured.embed(folder), atol=1e-2)
    np.testing.assert_allclose(measured.embed(folder, layer="wccn"), expected, atol=1e-5)
    np.testing.assert_allclose(measured.embed(picture(2), layer="wccn"), expected[2:3], atol=1e-5)
    embed_to_file(measured, open_source(str(folder)), tmp_path / "e.npz", layer="wccn")
    np.testing.assert_allclose(read_embeddings(tmp_path / "e.npz").values, expected, atol=1e-5)
    pipeline = RunTransformer(measured.folder.path, layer="wccn")
    np.testing.assert_allclose(pipeline.fit().transform(str(folder)), expected, atol=1e-5)
    assert pipeline.get_feature_names_out()[0] == "wccn0"


def test_search_takes_it_unless_told_otherwise(measured, run, pictures):
    folder = pictures([f"{i}.png" for i in range(6)])
    unit = by_hand(measured, folder)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = measured.index(folder)
    assert index.layer == "wccn"
    np.testing.assert_allclose(index.unit.numpy(), unit, atol=1e-5)
    (found,) = measured.search(picture(3), index, k=6)
    assert found[0].path == "3.png"
    np.testing.assert_allclose([m.similarity for m in found], np.sort(unit @ unit[3])[::-1], atol=1e-5)
    assert [m.path for m in measured.search(picture(3), folder, k=6)[0]] == [m.path for m in found]
    assert measured.index(folder, layer="backbone").layer == "backbone"
    assert run.index(open_source(str(folder))).layer == "backbone"


def test_a_run_without_it_says_how_to_have_it(run, pictures, tmp_path):
    source = open_source(str(pictures(["a.png"])))
    for ask in (
        lambda: run.embed(picture(0), layer="wccn"),
        lambda: run.index(source, layer="wccn"),
        lambda: embed_to_file(run, source, tmp_path / "e.npz", layer="wccn"),
        lambda: export(run, "onnx", tmp_path / "e.onnx", layer="wccn"),
        lambda: RunTransformer(run, layer="wccn").fit(),
    ):
        with pytest.raises(UsageError, match=r"no wccn\.safetensors.*resume=True.*layer backbone"):
            ask()


def test_the_name_it_had_before_is_accepted_with_a_note(measured, pictures):
    folder = pictures(["a.png", "b.png"])
    expected = by_hand(measured, folder)
    for ask in (
        lambda: measured.embed(folder, layer="views"),
        lambda: RunTransformer(measured.folder.path, layer="views").transform(str(folder)),
    ):
        with pytest.warns(UserWarning, match="is called wccn now"):
            np.testing.assert_allclose(ask(), expected, atol=1e-5)
    with pytest.warns(UserWarning, match='layer="wccn"'):
        assert measured.index(folder, layer="views").layer == "wccn"


def test_the_file_of_older_versions_is_read_and_replaced(measured):
    folder = measured.folder
    folder.wccn.rename(folder.older_wccn)
    older = isosphere.load(folder.path, device="cpu")
    assert torch.equal(older.metric.basis, measured.metric.basis)
    assert older.identity == measured.identity
    older.metric.keep(folder)
    assert folder.wccn.exists()
    assert not folder.older_wccn.exists()


def test_other_weights_take_it_away(measured):
    folder = measured.folder
    folder.write_encoder(measured.encoder.state_dict(), measured.encoder.spec())
    assert folder.read_wccn() is None


def test_onnx_holds_it(measured, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made = export(measured, "onnx", tmp_path / "e.onnx", layer="wccn")
    assert "largest relative difference" in made.check
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"))
    pixels = np.asarray(picture(1, 24), np.float32).transpose(2, 0, 1)[None] / 255
    (got,) = session.run(None, {"images": pixels})
    expected = by_hand(measured, picture(1, 24))
    assert got.ravel() @ expected.ravel() > 0.99 * np.linalg.norm(got) * np.linalg.norm(expected)
    with pytest.raises(UsageError, match="holds the backbone alone"):
        export(measured, "safetensors", layer="wccn")
