"""Images that a program has at hand, right and wrong."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from isosphere.data import (
    ImageSet,
    Loader,
    Source,
    as_picture,
    as_source,
    digests,
    load_images,
    open_source,
    stream,
)
from isosphere.data._decode import UnreadableImageError
from isosphere.errors import UsageError

from .conftest import picture


def pixels(seed: int = 0, width: int = 12, height: int = 12) -> np.ndarray:
    return np.array(picture(seed, width, height))


def refused(data, **options) -> str:
    with pytest.raises(UsageError) as caught:
        as_source(data, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def squares(source: Source, size: int = 12) -> torch.Tensor:
    return torch.cat([b.images for b in stream(source, size, batch_size=2, workers=2)])


ROWS = np.stack([pixels(i) for i in range(6)])


class Pictures(Dataset):
    """What people write: pairs of a PIL image and a label."""

    def __init__(self, n: int = 6) -> None:
        self.targets = [i % 2 for i in range(n)]
        self.classes = ["cat", "dog"]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i):
        return picture(i), self.targets[i]


class Items(Dataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        ROWS.transpose(0, 3, 1, 2),
        torch.from_numpy(ROWS),
        torch.from_numpy(ROWS.transpose(0, 3, 1, 2)),
        ROWS / 255.0,
        list(ROWS),
        [torch.from_numpy(x).permute(2, 0, 1) for x in ROWS],
        [picture(i) for i in range(6)],
        ImageSet(torch.from_numpy(ROWS).permute(0, 3, 1, 2), np.full(6, -1), list("abcdef")),
        Pictures(),
        Items([picture(i) for i in range(6)]),
        Items([(x, 3, "more") for x in ROWS]),
        Items([{"image": picture(i), "label": 2} for i in range(6)]),
        TensorDataset(torch.from_numpy(ROWS).permute(0, 3, 1, 2)),
    ],
    ids=lambda data: type(data).__name__,
)
def test_the_same_pictures_in_every_form(data):
    source = as_source(data)
    assert isinstance(source, Source)
    assert torch.equal(squares(source), torch.from_numpy(ROWS).permute(0, 3, 1, 2))
    assert torch.equal(load_images(source, 12).images, squares(source))
    found = digests(source)
    assert len({tuple(row) for row in found.tolist()}) == 6
    np.testing.assert_array_equal(found, digests(as_source(data)))
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(again.read(5), source.read(5))
    batch = next(Loader(source, batch_size=3, size=12, workers=2).epoch(0))
    assert torch.equal(batch.images[0], squares(source)[batch.index[0]])


def test_what_open_source_opens_is_opened(make_folder, tmp_path):
    folder = make_folder(["train/cat/a.png", "train/dog/b.png", "test/cat/c.png"])
    assert as_source(folder).paths == open_source(str(folder)).paths
    assert as_source(str(folder), split="test").paths == ["test/cat/c.png"]
    named = as_source(folder, name="pets", labels=["x", "y", "x"])
    assert (named.name, named.class_names, named.labels.tolist()) == ("pets", ["x", "y"], [0, 1, 0])
    source = open_source(folder)
    assert as_source(source) is source
    assert as_source(source, labels=[4, -1, 7]).labels.tolist() == [0, -1, 1]
    assert source.class_names == ["cat", "dog"], "the source that was given is left as it is"
    assert "There is no file or folder" in refused(str(tmp_path / "absent"))


def test_a_list_of_paths_shows_them_as_they_are_given(make_folder, monkeypatch):
    folder = make_folder(["a.png", "sub/b.png", "c.png"])
    (folder / "c.png").write_bytes(b"broken")
    monkeypatch.chdir(folder)
    source = as_source(["sub/b.png", Path("a.png"), "c.png", "absent.png"], labels=[1, 0, 1, 1])
    assert source.paths == ["sub/b.png", "a.png", "c.png", "absent.png"]
    assert source.digest(1) == open_source(folder).digest(0)
    images = load_images(source, 8)
    assert images.paths == ["sub/b.png", "a.png"]
    assert images.labels.tolist() == [1, 0]
    assert dict(images.skipped)["absent.png"] == "no such file or directory"
    assert as_source(np.array(["a.png", "c.png"])).paths == ["a.png", "c.png"]
    assert refused(["no.png"]) == "the file no.png does not exist: expected paths of image files."
    assert "the file no.png does not exist, nor do 2 others:" in refused(["no.png", "c.png/d", "e.png"])
    assert as_source(["sub"]).paths == ["b.png"]
    mixed = as_source([picture(), "a.png", "absent.png"])
    assert load_images(mixed, 8).images.shape == (2, 3, 8, 8)
    assert torch.equal(mixed.read(1), source.read(1))


def test_pictures_differ_in_size_mode_and_orientation():
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    picture(1, 8, 16).save(turned, "jpeg", exif=exif)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    grey = pixels(2, 20, 10)[..., 0]
    source = as_source([picture(0, 30, 20), Image.open(turned), clear, grey, grey[..., None]])
    shapes = [tuple(source.read(i).shape) for i in range(5)]
    assert shapes == [(3, 20, 30), (3, 8, 16), (3, 4, 4), (3, 10, 20), (3, 10, 20)]
    assert (source.read(2) == 255).all(), "transparency is laid over white, as for files"
    assert torch.equal(source.read(3), source.read(4))
    assert source.paths == [f"image {i}" for i in range(5)]


def test_a_picture_that_was_opened_and_is_damaged_is_named_and_passed_over():
    body = io.BytesIO()
    picture(0, 40, 40).save(body, "png")
    half = Image.open(io.BytesIO(body.getvalue()[: len(body.getvalue()) // 2]))
    images = load_images(as_source([picture(1), half]), 12)
    assert images.paths == ["image 0"]
    assert images.skipped[0][0] == "image 1"


def test_labels_of_a_data_set_are_its_targets():
    source = as_source(Pictures())
    assert source.labels.tolist() == [0, 1] * 3
    assert source.class_names == ["cat", "dog"]
    assert (source.name, source.paths[5]) == ("Pictures", "image 5")
    part = as_source(Subset(Pictures(), [3, 0]))
    assert (part.name, part.labels.tolist(), part.class_names) == ("Pictures", [1, 0], ["cat", "dog"])
    assert torch.equal(part.read(0), source.read(3))
    unknown = Items([(picture(), 3)] * 4)
    assert not as_source(unknown).has_labels, "items are not read to learn their labels"
    assert as_source(unknown, labels=torch.tensor([3, 5, 3, -1])).labels.tolist() == [0, 1, 0, -1]
    boxes: Any = Items([picture()] * 4)
    boxes.targets = [[1, 2]] * 4
    assert not as_source(boxes).has_labels
    imagenet: Any = Items([picture()] * 4)
    imagenet.targets = torch.tensor([2, 0, 1, 1])
    imagenet.classes = [("tench", "Tinca tinca"), ("goldfish",), ("shark",)]
    assert as_source(imagenet).class_names == ["tench", "goldfish", "shark"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1], r"labels has shape \(2,\) for 6 images; expected \(6,\)\."),
        (np.zeros((6, 2), int), r"labels has shape \(6, 2\); expected \(6,\)\."),
        ([0.5] * 6, "labels holds float64; expected one integer or one word"),
        ([None] * 6, "labels holds object; expected one integer or one word"),
    ],
)
def test_wrong_labels_are_refused(labels, said):
    for data in (ROWS, list(ROWS), Pictures()):
        with pytest.raises(UsageError, match=said):
            as_source(data, labels=labels)


class Endless(IterableDataset):
    def __iter__(self):
        yield picture()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "data is of type NoneType; expected a folder or another source by its name, a list of paths"),
        (7, "data is of type int; expected a folder"),
        ({"a": 1}, "data is of type dict; expected a folder"),
        (Endless(), "data is of type Endless; .* a map-style data set of torch"),
        (DataLoader(Pictures()), r"data is of type DataLoader; .* Give the loader's data set\."),
        ((x for x in ROWS), "data is of type generator; expected"),
        ([], "data is an empty list; expected at least one image"),
        (Items([]), "data is a Items without items"),
        (ROWS[0], r"data is one picture of shape \(12, 12, 3\); expected several, .* data\[None\]"),
        (np.zeros((4, 5)), r"data cannot be used: the images have shape \(4, 5\); expected \(n, h, w\)"),
        (np.array(3), r"the images have shape \(\); expected"),
        (np.zeros((2, 5, 5, 5), np.uint8), r"have shape \(2, 5, 5, 5\)"),
        (np.zeros((0, 5, 5), np.uint8), r"have shape \(0, 5, 5\)"),
        (ROWS.astype(complex), "the images have numbers of complex128; expected bytes"),
        (torch.from_numpy(ROWS).bfloat16(), "data cannot be used: .*BFloat16"),
        ([picture(), 3], r"data\[1\] is of type int; expected a PIL image, a uint8 array"),
        (
            [np.linspace(-2, 2, 48).reshape(4, 4, 3)],
            r"data\[0\] holds float64, shape \(4, 4, 3\); expected .* Leave out ToTensor",
        ),
        ([np.zeros((7, 7, 7), np.uint8)], r"data\[0\] has shape \(7, 7, 7\); expected"),
        ([np.zeros((0, 4), np.uint8)], r"data\[0\] has shape \(0, 4\); expected"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_what_holds_no_images_is_refused(data, said):
    with pytest.raises(UsageError, match=said):
        as_source(data)


def test_images_at_hand_have_no_test_part():
    for data in (ROWS, Pictures(), as_source(ROWS)):
        assert "is not split" in refused(data, split="test")
        assert len(as_source(data, split="train")) == 6
    assert "pets is not split" in refused(ROWS, split="test", name="pets")


class Faulty(Pictures):
    """Raises at its fourth item."""

    def __init__(self, error: Exception) -> None:
        super().__init__(12)
        self.error = error

    def __getitem__(self, i):
        if i == 3:
            raise self.error
        return super().__getitem__(i)


@pytest.mark.parametrize(
    "error", [OSError("the share is gone"), KeyError("label"), RuntimeError("x"), IndexError("y")]
)
@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_data_set_raises_surfaces_as_it_is(error, workers):
    source = as_source(Faulty(error))
    uses = [
        lambda: list(stream(source, 8, batch_size=2, workers=workers)),
        lambda: list(Loader(source, batch_size=4, size=8, workers=workers).epoch(0)),
        lambda: load_images(source, 8),
    ]
    for use in uses:
        with pytest.raises(type(error)) as caught:
            use()
        assert type(caught.value) is type(error), "and not as an image that cannot be read"
        assert caught.value.args == error.args
        where = [str(frame) for frame in caught.traceback] + getattr(caught.value, "__notes__", [])
        assert "raise self.error" in "".join(where)


def test_a_data_set_may_pass_over_an_image():
    images = load_images(as_source(Faulty(UnreadableImageError("eaten by moths"))), 8)
    assert images.skipped == [("image 3", "eaten by moths")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_of_another_kind_is_named(workers):
    tensors = Items([(torch.rand(3, 8, 8), 0)] * 6)
    with pytest.raises(
        UsageError, match=r"^item 0 of Items holds float32, shape \(3, 8, 8\); .* Leave out ToTensor"
    ):
        list(stream(as_source(tensors), 8, batch_size=2, workers=workers))
    with pytest.raises(UsageError, match=r"^item 0 of Items is of type OrderedDict; expected a PIL image"):
        list(stream(as_source(Items([OrderedDict(pixels=1)] * 6)), 8, batch_size=2, workers=workers))


def test_a_data_set_is_not_read_by_several_threads_at_once():
    class Alone(Pictures):
        inside = 0

        def __getitem__(self, i):
            assert self.inside == 0
            self.inside += 1
            found = super().__getitem__(i)
            self.inside -= 1
            return found

    assert len(load_images(as_source(Alone(200)), 12, workers=8)) == 200


def test_one_picture_at_a_time():
    assert as_picture(ROWS[0]).size == (12, 12)
    assert np.array_equal(np.asarray(as_picture(torch.from_numpy(ROWS[0]).permute(2, 0, 1))), ROWS[0])
    with pytest.raises(UsageError, match=r"^the query is of type int; expected a PIL image"):
        as_picture(7, "the query")


def test_a_column_of_words_is_words_and_what_is_no_class_is_refused():
    assert as_source(ROWS, labels=np.array(list("ababab"), object)).class_names == ["a", "b"]
    assert as_source(ROWS, labels=np.array([3, 4] * 3, object)).labels.tolist() == [0, 1] * 3
    for labels in ([float("inf")] * 6, np.array([1, "a", None, 2, 3, 4], object)):
        with pytest.raises(UsageError, match="expected one integer or one word"):
            as_source(ROWS, labels=labels)
    assert "does not exist" in refused(["a\0b.png"])


def test_labels_in_bfloat16_and_what_holds_nothing():
    labels = torch.tensor([0, 2, 2], dtype=torch.bfloat16)
    assert as_source(pixels()[None].repeat(3, 0), labels=labels).labels.tolist() == [0, 1, 1]
    assert "no numbers" in refused(torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="meta"))
    assert "data[1] has no pixels" in refused([Image.new("RGB", (8, 8)), Image.new("RGB", (0, 0))])
