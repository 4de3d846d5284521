"""A run in Python, and one that the version before has written."""

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import isosphere
from isosphere.data import open_source
from isosphere.errors import RunError, UsageError

from .conftest import QUICK, pixels

KEPT = Path(__file__).parent.parent / "kept_run"


@pytest.fixture
def kept(tmp_path):
    return isosphere.load(shutil.copytree(KEPT, tmp_path / "kept"), device="cpu", cache=False)


def test_a_run_of_the_version_before_gives_the_embeddings_it_gave(kept):
    digits = open_source("digits", split="test").subset(range(12))
    with np.load(KEPT / "expected.npz") as expected:
        for older, layer in (("backbone", "backbone"), ("views", "wccn"), ("head", "head")):
            np.testing.assert_allclose(kept.embed(digits, layer=layer), expected[older], atol=1e-5)


def test_a_run_is_its_parts(kept):
    assert isinstance(kept, isosphere.Run)
    assert kept.config.data.source == "digits"
    assert kept.method.encoder is kept.encoder
    assert not kept.method.training
    assert kept.views.recipe.size == kept.size
    assert repr(kept) == f"Run('{kept.folder.path}', test_efficientnet, {kept.size} px, cpu)"
    shown = kept._repr_html_()
    assert "<table>" in shown
    assert "test_efficientnet" in shown
    assert kept.layers == ("backbone", "wccn", "head")
    assert ", ".join(kept.layers) in shown
    assert str(kept.folder.path) in shown


class Pictures(torch.utils.data.Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return Image.fromarray(self.pictures[i]), i % 2


def test_every_form_of_the_same_images_gives_the_same_embeddings(kept, folder):
    arrays = pixels()
    expected = kept.embed(folder)
    files = sorted(folder.glob("*.png"))
    for same in (
        arrays,
        list(arrays),
        torch.from_numpy(arrays).permute(0, 3, 1, 2),
        [Image.fromarray(x) for x in arrays],
        files,
        [str(file) for file in files],
        Pictures(arrays),
        open_source(str(folder)),
    ):
        np.testing.assert_allclose(kept.embed(same), expected, atol=1e-6)
    np.testing.assert_allclose(kept.features(kept.square(arrays)), expected, atol=1e-6)
    for one in (arrays[3], Image.fromarray(arrays[3]), files[3], str(files[3])):
        np.testing.assert_allclose(kept.embed(one), expected[3:4], atol=1e-6)


def test_images_at_hand_are_searched(kept):
    arrays = pixels()
    (found,) = kept.search(arrays[5], arrays, k=3)
    assert found[0].row == 5
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert kept.search(pixels(30)[0], pixels(30), k=30)._repr_html_().count("<img src=") == 30
    several = kept.search(arrays[:2], arrays, k=3)
    assert several._repr_html_().count("<img src=") == 6
    assert "query 2" in several._repr_html_()


def test_duplicates_have_their_paths(kept, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copies"))
    shutil.copy(copy / "03.png", copy / "again.png")
    groups = kept.dedup(str(copy), threshold=1 - 1e-6, layer="head")
    assert groups._repr_html_().count("<img src=") == 2
    assert "again.png" in groups._repr_html_()
    (group,) = groups
    assert group.paths == ("03.png", "again.png")
    assert min(group.similarities) == pytest.approx(1, abs=1e-5)


def test_the_weights_of_an_epoch(folder, tmp_path, quick):
    made = isosphere.train(
        folder, tmp_path / "r", **{**quick, "epochs": 2, "set": {**quick["set"], "train.keep_every": 1}}
    )
    first, last = (isosphere.load(made.folder.path, device="cpu", epoch=k) for k in (1, 2))
    images = pixels(4)
    np.testing.assert_array_equal(last.embed(images), made.embed(images))
    assert not np.allclose(first.embed(images), made.embed(images), atol=1e-4)
    assert first.identity != made.identity  # an index of other weights is not to be searched
    assert "epoch 1" in repr(first)
    with pytest.raises(UsageError, match="kept are 1, 2"):
        isosphere.load(made.folder.path, epoch=7)


def test_export_in_python_speaks_of_keywords(kept, tmp_path):
    before = torch.get_rng_state()
    made = kept.export("safetensors", tmp_path / "e.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert made.files[0].exists()
    with pytest.raises(UsageError, match='format="onnx"'):
        kept.export("timm", layer="wccn")


def test_a_mistyped_keyword_is_answered_with_the_nearest(kept):
    for call, wrong, right in (
        (kept.evaluate, "task", "tasks"),
        (kept.embed, "layers", "layer"),
        (kept.report, "mapp", "map"),
        (isosphere.load, "devices", "device"),
    ):
        with pytest.raises(UsageError, match=f"There is no keyword '{wrong}'. Did you mean '{right}'"):
            call("digits", **{wrong: "x"})
    assert "tasks" in inspect.signature(kept.evaluate).parameters
    assert "run" not in inspect.signature(kept.evaluate).parameters


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such device here"):
        isosphere.load(KEPT, device="cuda")
    with pytest.raises(UsageError, match="no such device here"):
        isosphere.train("digits", tmp_path / "r", device="cuda", progress=False)


def test_a_trained_encoder_without_a_checkpoint_is_not_trained_over(tmp_path):
    copy = Path(shutil.copytree(KEPT, tmp_path / "copy"))
    before = (copy / "encoder.safetensors").read_bytes()
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        isosphere.train("digits", copy, resume=True, progress=False)
    assert (copy / "encoder.safetensors").read_bytes() == before


def test_views_are_drawn_of_images_by_name_and_at_hand(folder):
    drawn = [isosphere.views(data, image_size=16, count=3) for data in (folder, pixels())]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    with pytest.raises(UsageError, match="recipe"):
        isosphere.views(folder, recipe="no-such")


def test_what_is_not_in_an_evaluation_is_answered_with_what_is(tmp_path):
    run = isosphere.load(shutil.copytree(KEPT, tmp_path / "copy"), device="cpu")
    found = run.evaluate("digits", tasks="knn", limit=60, progress=False)
    assert "resume" not in found.summary()  # it has no checkpoint
    assert "<img src=" in found._repr_html_()
    with pytest.raises(KeyError, match="ridge: the evaluation holds knn"):
        found["ridge"]
    with pytest.raises(TypeError, match="got modl, expected some of model, layer"):
        found["knn"].one(modl="trained")
    with pytest.raises(KeyError, match="layer=head, metric=accuracy"):
        found["knn"].one(model="treined")
    assert "model=trained, layer=backbone, metric=accuracy: 0." in repr(found["knn"])


def test_what_embed_has_kept_is_never_taken_for_figures(tmp_path, folder):
    run = isosphere.load(shutil.copytree(KEPT, tmp_path / "copy"), device="cpu")
    run.embed(folder)  # the whole set, image by image
    options = {"tasks": "retrieval", "test": str(folder), "progress": False}
    found = run.evaluate(str(folder), **options)
    alone = isosphere.evaluate(shutil.copytree(KEPT, tmp_path / "alone"), str(folder), **options, cache=False)
    assert [f.as_dict() for _, f in found.figures] == [f.as_dict() for _, f in alone.figures]


def test_a_source_at_hand_with_a_test_part_elsewhere_is_split_itself(tmp_path):
    run = isosphere.load(shutil.copytree(KEPT, tmp_path / "copy"), device="cpu", cache=False)
    source = open_source("digits", split="train").subset(range(60))
    found = run.evaluate(source, tasks="knn", progress=False, baselines=False)
    assert found.split.startswith("80/20")
    assert run.report(source, progress=False).path.exists()
    with pytest.raises(UsageError, match="has a test part with labels of its own"):
        run.evaluate("digits", labels=[0] * 1437, tasks="knn", progress=False)


def test_an_epoch_is_judged_beside_the_figures_of_the_last_weights(folder, tmp_path, quick):
    settings = {**quick, "epochs": 2, "set": {**quick["set"], "train.keep_every": 1}}
    made = isosphere.train(folder, tmp_path / "r", **settings)
    judge = {"tasks": "retrieval", "progress": False, "cache": False}
    made.evaluate(folder, **judge)
    before = made.folder.evaluation.read_bytes()
    found = isosphere.load(made.folder.path, epoch=1, device="cpu").evaluate(folder, **judge)
    assert found["retrieval"].weights not in before.decode()
    assert made.folder.evaluation.read_bytes() == before


@pytest.mark.parametrize("content", ["[1, 2]", "null", "{"])
def test_a_damaged_file_of_figures_is_refused_before_the_work(tmp_path, content):
    copy = Path(shutil.copytree(KEPT, tmp_path / "copy"))
    (copy / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation\.json"):
        isosphere.evaluate(copy, "no/such/images", progress=False)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        *(
            (lambda run, k=k: run.search("digits", "digits", k=k), "k: got ")
            for k in (0, 1.5, "3", True, None)
        ),
        *(
            (lambda run, x=x: run.dedup("digits", threshold=x), "threshold: got ")
            for x in ("x", np.nan, 2, -1)
        ),
        *((lambda run, n=n: run.embed("digits", batch_size=n), "batch_size: got ") for n in (0, 1.5, "8")),
        *((lambda run, n=n: run.evaluate("digits", workers=n), "workers: got ") for n in (-1, 10**4, 0.5)),
        *((lambda run, n=n: run.evaluate("digits", limit=n), "limit: got ") for n in (1, 2.5, "5")),
        (lambda run: run.evaluate("digits", tasks=3), "tasks: got 3, expected a name, or a list of names"),
        (lambda run: run.export(None), "format: got None"),
        (lambda run: isosphere.load(run.folder.path, epoch="1"), "epoch: got '1'"),
        (lambda run: isosphere.load(None), "path: got None, expected the folder of a run"),
    ],
)
def test_an_argument_of_another_kind_is_refused_as_such(kept, call, said):
    with pytest.raises(UsageError, match=said) as refused:
        call(kept)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("device", ["x", "meta", ""])
def test_a_device_that_nobody_has(device):
    with pytest.raises(UsageError, match=f"got '{device}', expected cpu, cuda"):
        isosphere.load(KEPT, device=device)


def test_a_name_that_no_folder_can_have():
    with pytest.raises(UsageError, match="there is no run at x"):
        isosphere.load("x" * 5000)


def test_numbers_of_whole_kinds_of_numpy_are_whole(kept):
    assert len(kept.search(pixels(1), pixels(4), k=np.int64(2))[0]) == 2


def test_a_run_that_is_handed_on_needs_five_files_and_no_place(kept, tmp_path):
    (tmp_path / "other").mkdir()
    folder = kept.folder.path
    for file in (folder / "config.yaml", folder / "encoder.json", *folder.glob("*.safetensors")):
        shutil.copy(file, tmp_path / "other")
    config = tmp_path / "other" / "config.yaml"
    config.write_text(config.read_text().replace("source: digits", "source: null"))
    other = isosphere.load(tmp_path / "other", device="cpu")
    assert other.config.data.source is None
    np.testing.assert_array_equal(other.embed(pixels(3)), kept.embed(pixels(3)))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    out = tmp_path_factory.mktemp("taught") / "run"
    return isosphere.train(pixels(100), out=out, **QUICK, method="byol")


def test_the_teacher_is_applied_judged_and_exported_like_the_student(taught):
    student, teacher = (
        isosphere.load(taught.folder.path),
        isosphere.load(taught.folder.path, network="teacher"),
    )
    slow = student.method.teacher.module
    x = torch.randn(3, 3, student.size, student.size)
    features, z = teacher.method.embed(x)
    assert torch.equal(features, slow[0](x).float())
    torch.testing.assert_close(z, torch.nn.functional.normalize(slow[1](slow[0](x)), dim=1))
    pictures = pixels()
    assert not np.allclose(student.embed(pictures), teacher.embed(pictures))
    assert np.allclose(student.embed(pictures), isosphere.load(taught.folder.path).embed(pictures))
    assert "teacher" in repr(teacher)
    assert "wccn" not in teacher.layers  # it is the student's
    back = teacher.of_role("student")
    assert np.allclose(back.embed(pictures), student.embed(pictures))


def test_figures_of_the_teacher_stand_beside_those_of_the_run(taught):
    mine = taught.evaluate(pixels(100), tasks="geometry", progress=False)
    before = (taught.folder.path / "evaluation.json").read_bytes()
    theirs = taught.evaluate(pixels(100), tasks="geometry", network="teacher", progress=False)
    assert (taught.folder.path / "evaluation.json").read_bytes() == before
    assert any("teacher" in note for note in theirs.notes)
    where = {"model": "trained", "layer": "head", "metric": "effective_rank"}
    assert mine["geometry"].one(**where).value != theirs["geometry"].one(**where).value
    untrained = {**where, "model": "untrained"}
    assert mine["geometry"].one(**untrained).value == theirs["geometry"].one(**untrained).value
    again = taught.evaluate(pixels(100), tasks="geometry", progress=False)
    assert again["geometry"].one(**where).value == mine["geometry"].one(**where).value


def test_an_exported_teacher_says_what_it_is(taught):
    made = isosphere.load(taught.folder.path, network="teacher").export("safetensors")
    assert made.files[0].name == "encoder-safetensors-teacher.safetensors"
    assert json.loads(made.files[0].with_suffix(".json").read_text())["weights"] == "teacher"
    weights = load_file(made.files[0])
    slow = taught.method.teacher.module[0].state_dict()
    assert all(torch.equal(weights[name], slow[name]) for name in slow)


def test_a_run_without_a_teacher_says_so(kept):
    with pytest.raises(UsageError, match="without a slow teacher"):
        isosphere.load(kept.folder.path, network="teacher")
    with pytest.raises(UsageError, match="expected student or teacher"):
        isosphere.load(kept.folder.path, network="tutor")
