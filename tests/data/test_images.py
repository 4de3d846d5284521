"""A source in memory: square images, and the ones that could not be read."""

import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.data import (
    UnreadableImageError,
    fit_square,
    images_bytes,
    load_images,
    name_skipped,
    open_source,
)
from isosphere.data._arrays import ArraySource
from isosphere.data._source import Source
from isosphere.errors import RunError


@pytest.fixture
def folder(make_folder):
    """Six pictures of two classes, of which two are broken, and one of a format that is not read."""
    folder = make_folder(
        ["cat/0.png", "cat/1.png", "cat/2.jpg", "dog/3.png", "dog/4.png", "dog/5.png", "dog/6.jxl"]
    )
    (folder / "cat/1.png").write_bytes(b"hello")
    body = (folder / "dog/4.png").read_bytes()
    (folder / "dog/4.png").write_bytes(body[: len(body) // 2])
    return folder


def test_unreadable_images_are_left_out_counted_and_named(folder):
    images = load_images(open_source(folder), 10)
    assert images.images.shape == (4, 3, 10, 10)
    assert images.images.dtype == torch.uint8
    assert (
        images.images.untyped_storage().nbytes() == 6 * 3 * 10 * 10
    )  # no second copy without those left out
    assert images.paths == ["cat/0.png", "cat/2.jpg", "dog/3.png", "dog/5.png"]
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.class_names == ["cat", "dog"]
    assert [p for p, _ in images.skipped] == ["cat/1.png", "dog/4.png", "dog/6.jxl"]
    assert images.skipped[0][1] == "not an image in a format that is read here, or damaged at its start"
    assert (len(images), images.size, images.has_labels, images.name) == (4, 10, True, "pictures")
    for k, path in enumerate(images.paths):
        with Image.open(folder / path) as opened:
            expected = np.asarray(fit_square(opened.convert("RGB"), 10))
        np.testing.assert_array_equal(images.images[k].permute(1, 2, 0), expected)


def test_strict_refuses_and_names_them(folder):
    with pytest.raises(
        RunError, match=r"^3 images of pictures cannot be read: cat/1.png \(not an image.*4\.$"
    ):
        load_images(open_source(folder), 10, strict=True)
    (folder / "cat/1.png").unlink()
    (folder / "dog/4.png").unlink()
    with pytest.raises(RunError, match=r"1 image of pictures cannot be read: dog/6.jxl"):
        load_images(open_source(folder), 10, strict=True)
    (folder / "dog/6.jxl").unlink()
    assert len(load_images(open_source(folder), 10, strict=True)) == 4


def test_nothing_readable_is_an_error(make_folder):
    folder = make_folder(["a.png", "b.png", "c.png", "d.png", "e.png"])
    for file in folder.iterdir():
        file.write_bytes(b"x")
    with pytest.raises(
        RunError, match=r"None of the 5 images of pictures can be read: a.png .*; and 2 more\. Give"
    ):
        load_images(open_source(folder), 8)


class Broken(Source):
    """Raises something else than an unreadable image at one place, and says how many it was asked for."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("broken", [str(i) for i in range(10_000)])
        self.error, self.asked = error, 0

    def image(self, i, *, at_least=None):
        self.asked += 1
        if i == 40:
            raise self.error
        return Image.new("RGB", (4, 4))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_an_interruption_ends_the_work_at_once(error):
    source = Broken(error)
    with pytest.raises(type(error)):
        load_images(source, 4, workers=2)
    assert source.asked < 5000, "of 10,000: what is under way may end, nothing else begins"


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_does_not_show(folder, workers):
    images, reference = (
        load_images(open_source(folder), 7, workers=workers),
        load_images(open_source(folder), 7),
    )
    assert torch.equal(images.images, reference.images)
    assert images.skipped == reference.skipped


def test_progress_is_told_up_to_the_end(make_folder):
    source = ArraySource(np.zeros((100, 4, 4), np.uint8), name="x")
    told = []
    load_images(
        source, 4, progress=lambda done, total: told.append((done, total, threading.current_thread().name))
    )
    assert told[-1][:2] == (100, 100)
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert {name for *_, name in told} == {threading.current_thread().name}


def test_remarks_of_pillow_on_metadata_stay_quiet(make_folder):
    folder = make_folder(["a.png"])
    Image.new("RGB", (8, 8), "red").save(folder / "b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(load_images(open_source(folder), 8)) == 2
    assert not caught


def test_sizes_and_memory():
    source = ArraySource(np.zeros((3, 4, 4), np.uint8), name="x")
    with pytest.raises(ValueError, match="size is 0; expected at least 1 pixel"):
        load_images(source, 0)
    with pytest.raises(RunError, match=r"3 images of .* GiB of memory, which this machine does not give"):
        load_images(source, 1 << 27)
    assert images_bytes(3, 4) == load_images(source, 4).images.nbytes


def test_a_subset_of_images(folder):
    images = load_images(open_source(folder), 6)
    part = images.subset([2, 0])
    assert torch.equal(part.images, images.images[[2, 0]])
    assert part.paths == ["dog/3.png", "cat/0.png"]
    assert part.labels.tolist() == [1, 0]
    assert part.skipped == images.skipped


def test_naming_what_was_skipped():
    skipped = [(f"{k}.png", "why") for k in range(5)]
    assert name_skipped(skipped[:1]) == "0.png (why)"
    assert name_skipped(skipped, limit=2) == "0.png (why); 1.png (why); and 3 more"


def test_reading_one_image_raises_with_the_reason(folder):
    with pytest.raises(UnreadableImageError, match="not an image"):
        open_source(folder).read(1)
