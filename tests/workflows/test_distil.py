"""``train --distill``: what the teacher says of each image, kept, resumed, and refused in words."""

import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional

import isosphere
from isosphere.data import centre_view, open_source
from isosphere.errors import RunError, UsageError
from isosphere.methods import distillation_targets
from isosphere.runs import RunFolder
from isosphere.training import Callback, untrained
from isosphere.workflows._teacher import called

NAME = "test_efficientnet"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSPHERE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        torch.save(timm.create_model(NAME, num_classes=10).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty coloured pictures of several shapes, and a file that is none."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(40):
        pixels = np.kron(generator.integers(0, 256, (4, 4, 3)), np.ones((12, 12 + i % 3, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
    (folder / "07b.png").write_bytes(b"no picture")
    return folder


def distilled(pictures, out, weights, **options):
    more = {
        "train.batch_size": 16,
        "train.precision": "float32",
        "train.tensorboard": False,
        "data.workers": 0,
    }
    given = {"epochs": 2, "image_size": 24, "device": "cpu", "progress": False, "set": more}
    return isosphere.train(pictures, out, distill=f"{NAME}@{weights}", **{**given, **options})


@pytest.fixture(scope="module")
def run(pictures, weights, tmp_path_factory):
    return distilled(pictures, tmp_path_factory.mktemp("runs") / "run", weights)


def test_targets_are_those_of_the_teachers_features(run, pictures, weights):
    """Of the images that are trained on, in their order: not of the broken file, nor of those that are looked at."""
    targets = run.folder.read_targets()
    teacher = isosphere.load(f"timm:{NAME}@{weights}")
    readable = open_source(str(pictures)).subset([i for i in range(41) if i != 8])
    theirs = distillation_targets(torch.from_numpy(teacher.embed(readable)), 256)
    assert targets.shape == theirs.shape == (40, 256)
    torch.testing.assert_close(targets @ targets.T, theirs @ theirs.T, rtol=1e-3, atol=1e-3)
    assert run.config.method.name == "distillation"
    assert run.config.views.recipe == "distillation"


def test_the_run_is_one_as_any_other(run, pictures):
    assert run.embed(pictures / "00.png").shape == (1, 256)
    again = isosphere.load(run.folder.path)
    np.testing.assert_array_equal(again.embed(pictures / "00.png"), run.embed(pictures / "00.png"))
    found = again.evaluate(pictures, tasks="retrieval", progress=False)
    assert (
        found["retrieval"].one(model="trained", layer="head", metric="recall@1", variant="targets").value >= 0
    )


class Stop(Callback):
    def __init__(self, after):
        self.after = after

    def on_step(self, progress):
        return progress.step == self.after


def test_a_run_that_goes_on_is_one_that_was_not_stopped_without_its_teacher(run, pictures, weights, tmp_path):
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights.read_bytes())
    distilled(pictures, tmp_path / "run", moved, callbacks=Stop(3))
    moved.unlink()
    resumed = isosphere.train(pictures, tmp_path / "run", resume=True, progress=False)
    for (key, x), y in zip(
        resumed.encoder.state_dict().items(), run.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(x, y), key


def test_the_same_images_streamed_have_the_same_targets(run, pictures, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    streamed = distilled(pictures, tmp_path / "run", weights).folder.read_targets()
    assert streamed.shape == (41, 256)
    assert streamed[8].isnan().all()  # the broken file, in whose place the next one is taken
    torch.testing.assert_close(streamed[[i for i in range(41) if i != 8]], run.folder.read_targets())


def test_a_run_teaches_too(run, pictures, tmp_path):
    settings = {"image_size": 24, "epochs": 1, "progress": False, "set": {"data.workers": 0, "model.dim": 8}}
    taught = isosphere.train(pictures, tmp_path / "run", distill=run.folder.path, **settings)
    assert taught.folder.read_targets().shape == (40, 8)
    expected = distillation_targets(torch.from_numpy(run.embed(sorted(pictures.glob("[0-9][0-9].png")))), 8)
    targets = taught.folder.read_targets()
    torch.testing.assert_close(targets @ targets.T, expected @ expected.T, rtol=1e-3, atol=1e-3)


def test_a_teacher_is_named_as_a_command_takes_it(run, weights):
    assert called("resnet18") == "timm:resnet18"
    assert called(f"{NAME}@{weights}") == f"timm:{NAME}@{weights}"
    assert called(f"timm:{NAME}@{weights}") == f"timm:{NAME}@{weights}"
    assert called(str(run.folder.path)) == str(run.folder.path)
    assert called(str(weights)) == f"timm:tf_efficientnet_lite0@{weights}"


def test_it_learns_what_the_teacher_sees(pictures, weights, tmp_path):
    """Which pictures are alike for it agrees with what the teacher says, unlike for an untrained network."""
    run = distilled(pictures, tmp_path / "run", weights, epochs=40)
    teacher = isosphere.load(f"timm:{NAME}@{weights}")
    names = sorted(pictures.glob("[0-9][0-9].png"))
    theirs = distillation_targets(torch.from_numpy(teacher.embed(names)), 256)

    def agreement(method):
        with torch.no_grad():
            z = method.embed(run_views(run, names))[1]
        return functional.cosine_similarity((z @ z.T).flatten(), (theirs @ theirs.T).flatten(), dim=0)

    assert agreement(untrained(run.config, run.encoder.spec())) < 0.1
    assert agreement(run.method) > 0.3


def run_views(run, names):
    return centre_view(run.square(names), run.size, tuple(run.encoder.mean), tuple(run.encoder.std))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distill": "resnet999"}, "resnet999"),
        ({"distill": "nowhere.pth"}, "nowhere.pth"),
        ({"distill": "runs/gone"}, "there is no run and no file of this name"),
        ({"distill": "test_efficientnet@nowhere.pth"}, "no file 'nowhere.pth'"),
        ({"method": "distillation"}, 'name it, such as distill="tf_efficientnet_lite0"'),
        ({"method": "kl-vmf", "distill": "test_efficientnet"}, "is learned by distillation, and kl-vmf"),
    ],
)
def test_what_cannot_teach_is_refused_in_words(pictures, tmp_path, options, words):
    with pytest.raises((UsageError, RunError)) as refusal:
        isosphere.train(pictures, tmp_path / "run", epochs=1, progress=False, **options)
    assert words in str(refusal.value)
    assert not RunFolder(tmp_path / "run").config.exists()


def test_other_images_are_refused_when_a_run_goes_on(run, pictures, tmp_path):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in sorted(pictures.glob("[0-3]0.png")) + sorted(pictures.glob("[0-2][1-9].png")):
        (fewer / name.name).write_bytes(name.read_bytes())
    shutil.copytree(run.folder.path, tmp_path / "run")
    with pytest.raises(UsageError, match=r"fewer has 31 images now, and .* was asked of 40"):
        isosphere.train(fewer, tmp_path / "run", resume=True, epochs=4, progress=False)


def test_weights_of_another_network_are_told_by_their_shapes_and_what_to_type(pictures, weights, tmp_path):
    with pytest.raises(UsageError) as refusal:
        isosphere.train(pictures, tmp_path / "run", distill=weights, epochs=1, progress=False)
    assert "Tensors of its names have other shapes: conv_stem.weight" in str(refusal.value)
    assert "Name that one: timm:NAME@FILE." in str(refusal.value)


def test_a_bar_can_be_refused_everywhere(run, pictures):
    assert run.embed(pictures / "00.png", progress=False).shape == (1, 256)
    with pytest.raises(UsageError, match="progress: got 'loud', expected False, or a function"):
        run.embed(pictures / "00.png", progress="loud")
