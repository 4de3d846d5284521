"""Lists of images: what stands out, what stands for the rest, what belongs together, and what is there twice."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import isosphere
from isosphere.deploy import Embeddings, Index
from isosphere.errors import UsageError
from isosphere.workflows import (
    kept_names,
    outlier_neighbours,
    outliers_of,
    precision_in_words,
    read_answers,
)
from tests.workflows.conftest import pixels


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    out = tmp_path_factory.mktemp("lists") / "run"
    given = {"epochs": 1, "batch_size": 8, "device": "cpu", "progress": False}
    given |= {"model": {"dim": 16, "hidden": 16}, "image_size": 16}
    given |= {"set": {"train.tensorboard": False, "train.precision": "float32"}}
    return isosphere.train(str(folder), out=out, **given)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """24 smooth pictures of 64 px, two of them again: one as a JPEG, one smaller."""
    root = tmp_path / "pictures"
    root.mkdir()
    for i, picture in enumerate(pixels(side=64)):
        Image.fromarray(picture).save(root / f"{i:02d}.png")
    Image.open(root / "03.png").save(root / "a copy.jpg", quality=95)
    Image.open(root / "05.png").resize((48, 48), Image.Resampling.LANCZOS).save(root / "smaller.png")
    return root


def test_duplicates_at_a_threshold_from_copies(run, pictures):
    found = run.dedup(str(pictures))
    groups = {frozenset(group.paths) for group in found}
    assert {"03.png", "a copy.jpg"} <= set().union(*groups)
    assert found.layer in run.layers
    assert found.measured is not None
    assert found.threshold == found.measured.threshold
    assert found.measured.copies == 26
    assert found.measured.pairs == 26 * 25 // 2
    assert found.measured.recall.value > 0.3
    assert set(found.compared.sample.precision) == set(run.layers)
    again = run.dedup(str(pictures))
    assert (list(again), again.threshold) == (list(found), found.threshold)
    given = run.dedup(str(pictures), threshold=found.threshold, layer=found.layer)
    assert list(given) == list(found)
    assert given.measured is None


def test_pairs_near_the_threshold_are_on_both_sides(run, pictures):
    found = run.dedup(str(pictures), threshold=0.9, layer="backbone")
    pairs = found.near(10)
    assert len(pairs) == 10
    cosines = [pair.similarity for pair in pairs]
    assert cosines == sorted(cosines, reverse=True)
    assert any(c >= 0.9 for c in cosines)


def test_between_sets_only_images_of_different_sets_are_compared(run, pictures, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(pictures / "03.png", other / "new.png")
    shutil.copy(pictures / "03.png", other / "newer.png")
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (64, 64, 3), np.uint8)).save(
        other / "noise.png"
    )
    found = run.dedup(str(pictures), against=str(other), threshold=1 - 1e-6, layer="backbone")
    assert [group.paths for group in found] == [("pictures/03.png", "other/new.png", "other/newer.png")]
    assert found.drop("first") == ["other/new.png", "other/newer.png"]
    assert run.dedup(str(other), threshold=1 - 1e-6, layer="backbone")[0].paths == ("new.png", "newer.png")
    measured = run.dedup(str(pictures), against=str(other)).measured
    assert measured.pairs == 26 * 3


def test_a_file_in_both_sets_is_found(run, pictures, tmp_path):
    """A leak by a path or a link is one; within a set links stay one image."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "link.png").symlink_to(pictures / "03.png")
    (other / "again.png").symlink_to(pictures / "03.png")
    os.link(pictures / "07.png", other / "hard.png")
    at = {"threshold": 1 - 1e-6, "layer": "backbone"}
    found = run.dedup(str(pictures), against=str(other), **at)
    assert {group.paths for group in found} == {
        ("pictures/03.png", "other/again.png"),
        ("pictures/07.png", "other/hard.png"),
    }
    assert all(cosine == pytest.approx(1, abs=1e-6) for group in found for cosine in group.similarities)
    assert [member["set"] for member in found.members(found[0])] == [1, 2]
    assert (found.compared.links, found.repeated, found.in_several_sets) == (1, 2, None)
    assert found.drop() == ["other/again.png", "other/hard.png"]
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("pictures/03.png\npictures/05.png\n")
    test.write_text("pictures/03.png\npictures/09.png\n")
    for rule in ("first", "largest", "sharpest"):
        found = run.dedup(str(train), against=str(test), **at)
        assert [len(group) for group in found] == [2]
        assert found.repeated == found.as_dict()["in_several_sets"] == 1
        assert found.in_several_sets.startswith("1 image is in several sets by the same path (")
        assert found.drop(rule) == []
        kept = kept_names(found, found.rows_to_drop(rule))
        assert [Path(name).name for name in kept] == ["03.png", "05.png", "09.png"]


def test_answers_go_by_the_cosines_of_the_layer_at_hand(run, pictures, tmp_path):
    file = tmp_path / "answers.csv"
    rows = ["03.png,a copy.jpg,-1,yes", "01.png,02.png,1,no", "gone.png,02.png,1,no", "04.png,05.png,1,"]
    file.write_text("\n".join(["first,second,similarity,same", *rows]) + "\n")
    answers = read_answers(file)
    for layer in ("backbone", "head"):
        index = run.index(str(pictures), layer=layer)
        unit = dict(zip(index.paths, index.unit, strict=True))
        copy, other = unit["03.png"] @ unit["a copy.jpg"], unit["01.png"] @ unit["02.png"]
        assert copy > other
        found = run.dedup(str(pictures), threshold=float(copy + other) / 2, layer=layer)
        said = answers.precision(found)
        assert (said.above.value, said.below.value, said.left_out) == (1, 0, 1)
        assert "1 answer left out" in precision_in_words(said)
        every = answers.precision(found.at(float(other) - 1e-3))
        assert every.above.value == 0.5
    file.write_text("first,second,similarity,same\ngone.png,02.png,1,no\n")
    with pytest.raises(UsageError, match="on other images"):
        read_answers(file).precision(found)


def test_what_is_kept_of_a_group(run, tmp_path):
    root = tmp_path / "group"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    sharp = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
    sharp.filter(ImageFilter.GaussianBlur(3)).resize((128, 128)).save(root / "a blurred and large.png")
    sharp.resize((64, 64)).save(root / "b first of the small.png")
    sharp.save(root / "c sharp.png")
    found = run.dedup(str(root), threshold=-0.99, layer="backbone")
    assert [len(group) for group in found] == [3]
    kept = {rule: set(found[0].paths) - set(found.drop(rule)) for rule in ("first", "largest", "sharpest")}
    assert kept["first"] == kept["largest"] == {"a blurred and large.png"}
    assert kept["sharpest"] == {"c sharp.png"}


def test_an_outlier_is_the_first_of_the_list(run, pictures):
    striped = np.zeros((64, 64, 3), np.uint8)
    striped[np.arange(64) // 8 % 2 == 0] = 255
    Image.fromarray(striped).save(pictures / "striped.png")
    found = run.outliers(str(pictures), layer="backbone")
    assert len(found) == 27
    assert found[0].path == "striped.png"
    distances = [each.distance for each in found]
    assert distances == sorted(distances, reverse=True)
    index = run.index(str(pictures), layer="backbone")
    assert [each.path for each in run.outliers(index, 3)] == [each.path for each in found[:3]]
    twin = next(each for each in found if each.path == "a copy.jpg")
    assert twin.nearest == "03.png"


def test_copies_among_few_images_are_no_outliers():
    """The 10th neighbour of 12 images is nearly the farthest, of a copy as of any other."""
    places = []
    for seed in range(60):
        near = np.random.default_rng(seed).normal(size=(9, 8)) * 0.3 + np.eye(8)[0]
        rows = np.concatenate([near, near[:2], -np.eye(8)[:1]]).astype(np.float32)
        made = Embeddings(rows, np.full(12, -1), [f"{i}.png" for i in range(12)], [])
        found = [each.row for each in outliers_of(Index.of(made, "backbone"))]
        assert found[0] == 11
        places += [found.index(row) for row in (0, 1, 9, 10)]
    assert np.mean(places) > 6.4  # 5.5 by chance: copies come later than others
    assert [outlier_neighbours(n) for n in (2, 4, 12, 30, 31, 1000)] == [1, 1, 3, 9, 10, 10]


def test_subsets_hold_each_image_once(run, pictures):
    for how in ("diverse", "typical"):
        found = run.subset(str(pictures), 10, how)
        assert len({each.path for each in found}) == len(found) <= 10
        assert run.subset(str(pictures), 10, how) == found or how == "diverse"  # nan is not nan
        rest = run.subset(str(pictures), 5, how, labelled=[each.path for each in found])
        assert not {each.path for each in rest} & {each.path for each in found}
    distances = [each.distance for each in run.subset(str(pictures), 26)][1:]
    assert distances == sorted(distances, reverse=True)
    assert sum(each.images for each in run.subset(str(pictures), 4, "typical")) == 26
    with pytest.raises(UsageError, match="expected diverse or typical"):
        run.subset(str(pictures), 3, "typcal")
    with pytest.raises(UsageError, match="1 to 26"):
        run.subset(str(pictures), 27)
    with pytest.raises(UsageError, match=r"no image 3\.png"):
        run.subset(str(pictures), 2, labelled=["3.png"])


def test_clusters_divide_the_images(run, pictures):
    found = run.cluster(str(pictures), 4)
    assert sorted(path for cluster in found for path in cluster.paths) == sorted(
        p.name for p in pictures.iterdir()
    )
    assert [cluster.number for cluster in found] == list(range(1, len(found) + 1))
    sizes = [len(cluster) for cluster in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(run.cluster(str(pictures))) <= 5
    with pytest.raises(UsageError, match="1 to 26"):
        run.cluster(str(pictures), 27)


def test_clusters_are_named_by_the_class_that_most_have(run, tmp_path):
    for i, picture in enumerate(pixels(side=32)):
        path = tmp_path / ("red" if i % 2 == 0 else "other") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    found = run.cluster(str(tmp_path), 24)
    assert {cluster.label for cluster in found} == {"red", "other"}
    assert all(cluster.share == 1 for cluster in found if len(cluster) == 1)
    assert run.outliers(str(tmp_path), 1)[0].label in ("red", "other")
