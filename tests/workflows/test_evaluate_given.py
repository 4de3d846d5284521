"""Images that are handed to an evaluation in Python: what is used of them, and what is said of the rest."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import isosphere
from isosphere.data import as_source, open_source
from isosphere.errors import RunError, UsageError, for_a_shell, plural
from isosphere.workflows._splits import choose_ood, choose_splits, own_images

from .conftest import pixels

KEPT = Path(__file__).parent.parent / "kept_run"
IMAGES, LABELS = pixels(), [i % 2 for i in range(24)]
QUIET = {"progress": False, "cache": False, "baselines": False}


@pytest.fixture
def run(tmp_path):
    return isosphere.load(shutil.copytree(KEPT, tmp_path / "run"), device="cpu", cache=False)


class Pairs(torch.utils.data.Dataset):
    """Images with labels that nobody can know of without reading each."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return Image.fromarray(IMAGES[i]), LABELS[i]


class Stated(Pairs):
    targets = LABELS


def refusal(call, *args, **options) -> str:
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    return str(caught.value)


def test_labels_of_a_dataset_are_its_targets():
    assert as_source(Stated()).labels.tolist() == LABELS
    splits = choose_splits(Pairs())
    assert splits.without_labels() == (
        "The images have no labels: give labels=[...], or a folder for each class."
    )
    with for_a_shell():
        assert splits.without_labels() == "The images have no labels: a folder for each class gives them."
    assert choose_splits(Pairs(), labels=LABELS).labelled


def test_the_part_without_labels_is_named(run):
    said = refusal(run.evaluate, IMAGES, labels=LABELS, test=IMAGES, tasks="knn", **QUIET)
    assert "The test images have no labels: give test=isosphere.data.as_source(images, labels=[...])" in said
    labelled = as_source(IMAGES, labels=LABELS)
    said = refusal(run.evaluate, IMAGES, test=labelled, tasks="knn", **QUIET)
    assert "The training images have no labels: give labels=[...]" in said
    named = as_source(IMAGES, labels=["cat", "dog"] * 12)
    said = refusal(run.evaluate, IMAGES, labels=LABELS, test=named, tasks="knn", **QUIET)
    assert "No test image is of a class of the training images (0, 1): name the classes alike." in said
    found = run.evaluate(IMAGES, labels=LABELS, test=labelled, tasks="knn", **QUIET)
    assert found["knn"].protocol["test_images"] == 24


def test_what_is_left_out_for_want_of_images_is_said(run):
    found = run.evaluate(IMAGES, labels=LABELS, **QUIET)
    assert set(found) == {"knn"}
    assert "The task geometry needs at least 20 test images, and there are 4: it is left out." in found.notes
    # without labels
    notes = run.evaluate(IMAGES, **QUIET).notes
    assert any(
        "have no labels: give labels=[...], or" in n and "accuracy is not measured" in n for n in notes
    )


@pytest.mark.parametrize(
    "one",
    [
        IMAGES,
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2),
        list(IMAGES),
        [Image.fromarray(x) for x in IMAGES],
        Pairs(),
        as_source(IMAGES),
    ],
    ids=["array", "tensor", "arrays", "pictures", "dataset", "source"],
)
def test_one_set_at_hand_is_one_ood_set(one):
    ((_, found),) = choose_ood(one).items()
    assert len(found) == 24


def test_several_ood_sets(folder):
    assert list(choose_ood([str(folder), folder])) == [folder.name, f"{folder.name}-2"]
    sets = choose_ood([IMAGES, Pairs(), IMAGES[:5, ..., 0]])
    assert {name: len(source) for name, source in sets.items()} == {"images": 24, "Pairs": 24, "images-2": 5}
    assert list(choose_ood({"night": IMAGES, "test": folder})) == ["night", "test-2"]
    assert choose_ood(()) == choose_ood(None) == {}


def test_ood_sets_whose_folders_are_called_alike_are_told_apart(folder, tmp_path):
    places = [Path(shutil.copytree(folder, tmp_path / place / "night")) for place in ("a", "b")]
    sets = choose_ood(places)
    assert {name: source.name for name, source in sets.items()} == {
        "a-night": "a/night",
        "b-night": "b/night",
    }
    alike = choose_ood([IMAGES, IMAGES[:5]])
    assert {name: source.name for name, source in alike.items()} == {
        "images": "images",
        "images-2": "images-2",
    }


def test_errors_of_ood_sets_name_them(run):
    assert refusal(choose_ood, 7).startswith("ood is of type int; expected")
    assert refusal(choose_ood, [IMAGES, 7]).startswith("ood[1] is of type int; expected")
    assert refusal(choose_ood, {"a": 7}).startswith('ood["a"] is of type int; expected')
    assert "ood[None] makes one of it" in refusal(choose_ood, IMAGES[0])
    assert "several sets in a list" in refusal(run.evaluate, IMAGES, tasks="ood", **QUIET)


@pytest.mark.parametrize("name", ["array of 1,059 images", "list of 59 images", "Pairs of 59 images"])
def test_images_in_memory_are_to_be_given_again(run, name):
    file = run.folder.path / "config.yaml"
    file.write_text(file.read_text().replace("source: digits", f"source: {name}"))
    for evaluate in (isosphere.load(run.folder.path).evaluate, lambda: isosphere.evaluate(run.folder.path)):
        assert refusal(evaluate) == (
            f"the run was trained on images in memory ({name}), and does not hold them: give them again."
        )


def test_images_that_have_gone_may_have_been_in_memory(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def trained_on(source):
        return replace(run, config=run.config.replace(data={"source": source}))

    for there in ("digits", "textures:wood", str(folder), f"{folder}?classes=list.txt"):
        assert own_images(trained_on(there)) == there
    said = refusal(own_images, trained_on("images"))
    assert "give them again if they were in memory. There is no file or folder images" in said


def test_one_image_is_no_limit(run):
    said, written = "limit: got 1, expected at least 2 images.", run.folder.path / "evaluation.json"
    before = written.read_text()
    assert refusal(run.evaluate, IMAGES, limit=1, **QUIET) == said
    assert refusal(run.report, IMAGES, limit=1) == said
    assert written.read_text() == before


def test_a_second_evaluation_knows_why_a_file_was_left_out(run, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    whole = (copy / "03.png").read_bytes()
    (copy / "03.png").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        notes = run.evaluate(copy, test=folder, tasks="retrieval", baselines=False, progress=False).notes
        assert not any("cannot be used" in note for note in notes)  # retrieval reads no training images
        notes = run.evaluate(copy, test=copy, tasks="geometry", baselines=False, progress=False).notes
        assert notes[0].startswith("1 file of the test images cannot be used and is left out: 03.png (")
        assert "could not be read" not in notes[0]


def test_a_file_that_belongs_to_neither_part_is_named_once(run, folder, tmp_path):
    for name in ("copy", "copy/test"):  # split here by the seed, and by its folders
        copy = Path(shutil.copytree(folder, tmp_path / name))
        (copy / "scan.psd").write_bytes(b"8BPS")
        notes = run.evaluate(tmp_path / "copy", tasks="retrieval", baselines=False, progress=False).notes
        named = [note for note in notes if "scan.psd" in note]
        assert len(named) == 1
        assert "of the images, before the split, cannot be used" in named[0]


def test_classes_of_different_sizes_are_judged_one_by_one(run):
    """21 pictures of one class and 3 of another: always naming the first is right in 87.5 %."""
    few = ["many"] * 21 + ["few"] * 3
    test = as_source(IMAGES, labels=few)
    found = run.evaluate(as_source(IMAGES, labels=few), test=test, tasks="knn", cache=False, progress=False)
    knn = found["knn"]
    base = {"model": "largest-class"}
    assert knn.one(**base).value == 21 / 24
    assert knn.one(**base, metric="balanced_accuracy").value == 0.5
    ours = {"model": "trained", "layer": "backbone"}
    recalls = knn.find(**ours, metric="recall")
    assert {f.subset for f in recalls} == {"many", "few"}
    balanced = knn.one(**ours, metric="balanced_accuracy").value
    assert balanced == pytest.approx(sum(f.value for f in recalls) / 2)
    assert recalls[0].value <= recalls[1].value
    assert knn.protocol["largest_class"] == "many"
    assert "k-NN asks 20 neighbours, and few has 3 training images: others may outvote them" in knn.hint
    said = found.summary()
    assert said.startswith(f"k-NN balanced accuracy, the mean over classes, is {100 * balanced:.1f} %")
    assert "always naming many gives 87.5 %)" in said
    table = found.table()
    for words in ("always naming the largest class", "balanced", "k-NN recall of each class"):
        assert words in table
    even = run.evaluate(IMAGES, labels=LABELS, test=as_source(IMAGES, labels=LABELS), tasks="knn", **QUIET)
    assert even["knn"].headline.startswith("k-NN accuracy is ")


def test_what_is_given_for_a_task_adds_it(run):
    found = run.evaluate(IMAGES, labels=LABELS, tasks="knn", ood=IMAGES, probe="sgd", **QUIET)
    assert set(found) == {"knn", "ood", "linear"}
    assert "needs labels" in refusal(run.evaluate, IMAGES, tasks="retrieval", probe="sgd", **QUIET)


def test_words_of_numbers():
    assert [plural(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]


def test_open_source_takes_the_test_part_of_a_named_set(run):
    ((name, found),) = choose_ood("digits").items()
    assert (name, len(found)) == ("digits", len(open_source("digits", split="test")))


def test_of_many_images_so_many_are_paired_and_it_is_said(run, monkeypatch):
    """Geometry and the figures without labels compare all pairs."""
    monkeypatch.setattr("isosphere.workflows.tasks._base.PAIRED", 22)
    found = run.evaluate(IMAGES, test=IMAGES, tasks="geometry,unlabelled", **QUIET)
    for task in ("geometry", "unlabelled"):
        assert (found[task].protocol["images"], found[task].protocol["drawn_from"]) == (22, "24")
    assert "22 test images (drawn from 24)" in found.table()
    whole = isosphere.evaluation.geometry(run.embed(IMAGES, layer="head"))
    some = found["geometry"].one(model="trained", metric="uniformity").value
    assert some != whole["uniformity"].value
    assert some == pytest.approx(whole["uniformity"].value, abs=0.2)


def test_features_that_are_not_finite_are_named_and_not_judged(run):
    with torch.no_grad():
        next(run.encoder.parameters()).fill_(float("inf"))
    with pytest.raises(
        RunError, match=r"the trained encoder gives numbers that are not finite for 24 images, the fir"
    ):
        run.evaluate(IMAGES, test=IMAGES, tasks="retrieval", **QUIET)
