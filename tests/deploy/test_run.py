"""A run in Python: every way to name the same pictures gives the same embeddings."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import isosphere
from isosphere import Run, RunTransformer
from isosphere.data import Reading, as_source, fingerprint, load_images, open_source
from isosphere.errors import UsageError
from isosphere.evaluation import extract
from isosphere.training import open_training_source
from isosphere.training import prepare as prepare_parts

from .conftest import picture, train_tiny


def test_importing_isosphere_is_light():
    code = "import sys, isosphere; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_embeddings_are_those_of_the_evaluation(run, pictures):
    folder = pictures([f"{i}.png" for i in range(6)])
    images = load_images(open_source(str(folder)), 28)
    features = extract(run.method.embed, images, 24, run.encoder.mean, run.encoder.std)
    for layer in ("backbone", "head"):
        got = run.embed(str(folder), layer=layer)
        assert got.dtype == np.float32
        assert np.array_equal(got, getattr(features, layer).numpy())
    assert np.allclose(np.linalg.norm(run.embed(folder, layer="head"), axis=1), 1, atol=1e-5)


def test_one_picture_by_any_name(run, pictures):
    folder = pictures(["a.png", "b.png"])
    expected = run.embed(folder)
    opened = [Image.open(folder / name) for name in ("a.png", "b.png")]
    arrays = np.stack([np.asarray(image) for image in opened])
    tensor = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    for same in (
        opened,
        [str(folder / "a.png"), folder / "b.png"],
        arrays,
        list(arrays),
        tensor,
        list(tensor),
    ):
        assert np.allclose(run.embed(same), expected, atol=1e-6)
    for one in (opened[0], str(folder / "a.png"), folder / "a.png", arrays[0], tensor[0]):
        assert np.allclose(run.embed(one), expected[:1], atol=1e-6)
    source = open_source(str(folder))
    assert np.array_equal(run.embed(source), expected)
    assert np.array_equal(run.embed(load_images(source, run.canvas)), expected)


def test_larger_pictures_are_brought_to_the_canvas(run, tmp_path):
    large = picture(3, 120)
    large.save(tmp_path / "large.png")
    assert np.allclose(run.embed(large), run.embed(str(tmp_path)), atol=1e-6)
    grey = np.asarray(picture(3, 40).convert("L"))
    assert run.embed(grey).shape == (1, 256)


def test_the_state_of_the_network_does_not_change(run):
    before = {k: v.clone() for k, v in run.encoder.state_dict().items()}
    state = torch.get_rng_state()
    run.embed([picture(0)])
    assert all(torch.equal(v, before[k]) for k, v in run.encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not run.encoder.training


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "empty list"),
        (np.full((2, 8, 8, 3), 50.0), "float64 from 50 to 50"),
        (7, "of type int"),
        ("absent-folder", "no file or folder"),
        (["absent.png"], r"the file absent\.png does not exist"),
        (np.zeros((4, 5, 7, 5), np.uint8), r"expected \(n, h, w\), \(n, h, w, channels\)"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(run, images, words):
    with pytest.raises(UsageError, match=words):
        run.embed(images)


def test_unknown_layer(run):
    with pytest.raises(UsageError, match="expected adapted, backbone, wccn or head"):
        run.embed(picture(0), layer="neck")  # type: ignore[arg-type]


def test_unreadable_pictures_are_named(run, pictures):
    folder = pictures(["a.png", "b.png"])
    (folder / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(UsageError, match=r"broken\.png cannot be read as an image"):
        run.embed(str(folder))


def test_search_finds_the_picture_itself_first(run, pictures):
    folder = pictures(["x/a.png", "x/b.png", "y/c.png"])
    found = run.search([folder / "x" / "b.png", picture(2)], str(folder), k=10)
    assert [len(matches) for matches in found] == [3, 3]
    assert found[0][0].path == "x/b.png"
    assert found[0][0].label == "x"
    assert found[0][0].similarity == pytest.approx(1, abs=1e-5)
    assert found[1][0].path == "y/c.png"
    assert all(a.similarity >= b.similarity for a, b in zip(found[0], found[0][1:], strict=False))


def test_load_refuses_what_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="there is no run"):
        isosphere.load(tmp_path / "absent")


def test_transformer_in_a_pipeline(trained, run, pictures):
    import pickle

    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    folder = pictures([f"{i}.png" for i in range(8)])
    files = sorted(folder.glob("*.png"))
    labels = np.arange(8) % 2
    pipeline = make_pipeline(RunTransformer(str(trained)), LogisticRegression(C=1e6, max_iter=2000))
    assert pipeline.fit(files, labels).score(files, labels) == 1.0
    step = pipeline[0]
    assert isinstance(step, RunTransformer)
    assert np.array_equal(step.transform(files), run.embed(files))
    assert list(step.get_feature_names_out()[:2]) == ["backbone0", "backbone1"]
    assert len(step.get_feature_names_out()) == step.transform(files).shape[1]
    stored = pickle.dumps(step)
    assert len(stored) < 2000
    assert np.array_equal(pickle.loads(stored).transform(files), run.embed(files))
    copy = clone(step)
    assert isinstance(copy, RunTransformer)
    assert copy.get_params() == step.get_params()
    assert isinstance(run, Run)
    assert RunTransformer(run, layer="head").fit_transform(files).shape == (8, 12)
    with pytest.raises(UsageError, match="expected adapted, backbone, wccn or head"):
        RunTransformer(run, layer="neck").fit(files)  # type: ignore[arg-type]


def test_twelve_bits_in_sixteen_are_one_scale_in_training_and_after(tmp_path):
    (tmp_path / "data").mkdir()
    deep = [np.asarray(picture(seed).convert("L")).astype(np.uint16) * 16 for seed in range(16)]
    deep[0][0, :2] = 4095, 0
    for seed, values in enumerate(deep):
        Image.fromarray(values).save(tmp_path / "data" / f"{seed:02d}.png")
    run = isosphere.load(train_tiny(tmp_path / "run", tmp_path / "data"), device="cpu")
    assert run.config.data.white == run.pixels.reading.white == 4095
    expected = run.embed(str(tmp_path / "data"))
    files = sorted((tmp_path / "data").iterdir())
    eight = [np.rint(values / 4095 * 255).astype(np.uint8) for values in deep]
    for same in (files, [Image.open(file) for file in files], deep, np.stack(deep), eight):
        assert np.allclose(run.embed(same), expected, atol=1e-6)
    prepare: dict = {}
    exec(run.pixels.script(), prepare)
    with torch.no_grad():
        features = run.encoder(torch.from_numpy(np.stack([prepare["prepare"](file) for file in files])))
    assert np.abs(features.numpy() - expected).max() < 1e-4
    assert run.dedup(str(tmp_path / "data"), threshold=0.99999) == []
    before = replace(run, reading=Reading(), cache=None)  # of images of 8 bits, or of an earlier version
    halved = [values // 2 for values in deep[1:]]  # darker, and of the same set: one white for all
    for same in (files, [Image.open(file) for file in files], deep, np.stack(deep)):
        assert np.allclose(before.embed(same), expected, atol=1e-6)
    assert np.allclose(before.embed([deep[0], *halved])[1:], run.embed(halved), atol=1e-6)
    assert np.allclose(before.search(halved[0], before.index(np.stack(deep)))[0][0].similarity, 1, atol=0.2)
    assert before.index(np.stack(deep)).white == 4095
    assert np.array_equal(before.embed(eight), run.embed(eight))
    settled, white = before.settled(as_source(files))
    assert settled.key["white"] == 4095
    assert white is not None
    assert white.reason.startswith("4095 is white (uint16 from 0 to 4095")
    shares = [values.astype(np.float32) / 4095 for values in deep]
    assert np.allclose(before.embed(shares), expected, atol=2e-3)
    for low in (shares, np.stack(deep) // 17):
        with pytest.raises(UsageError, match="and 4095 is white: they would be nearly black"):
            run.embed(low)
    config = run.config.replace(data={"white": None})
    found = prepare_parts(config).facts["pixels"]
    assert found == "4095 is white (uint16 from 0 to 4095 in 16 of 16 images looked at)"
    record = run.folder.read_spec()
    assert prepare_parts(config, record=record).config.data.white is None, (
        "what is gone on with keeps its pixels"
    )
    np.savez(tmp_path / "deep.npz", images=np.stack(deep))
    parts = prepare_parts(config.replace(data={"source": str(tmp_path / "deep.npz")}))
    assert fingerprint(open_training_source(parts.config)) == parts.fingerprint, "it knows its images again"
