"""Images as arrays: what .npz and .npy files may hold, and what is refused."""

import zipfile

import numpy as np
import pytest
import torch

from isosphere.data import Channels, Reading, UnreadableImageError, load_images, open_source
from isosphere.data._arrays import ArraySource
from isosphere.data._npz import open_array_file
from isosphere.errors import UsageError

RNG = np.random.default_rng(0)


def pictures(n: int = 5, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, *(shape or (6, 7, 3))), dtype=np.uint8)


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        file = tmp_path / "pack.npz"
        np.savez_compressed(file, **arrays)
        return file

    return write


def test_train_and_test_share_their_classes(npz):
    x_train, x_test = pictures(4), pictures(3)
    file = npz(x_train=x_train, y_train=[7, 3, 3, 7], x_test=x_test, y_test=[3, 9, 7])
    train, test, both = (open_source(file, split=s) for s in ("train", "test", None))
    assert (len(train), len(test), len(both)) == (4, 3, 7)
    assert train.class_names == test.class_names == both.class_names == ["3", "7", "9"]
    assert train.labels.tolist() == [1, 0, 0, 1]
    assert test.labels.tolist() == [0, 2, 1]
    assert both.labels.tolist() == [1, 0, 0, 1, 0, 2, 1]
    assert both.paths[4] == "x_test/0"
    assert train.has_test_split
    np.testing.assert_array_equal(test.read(2).permute(1, 2, 0), x_test[2])
    np.testing.assert_array_equal(both.read(6).permute(1, 2, 0), x_test[2])


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("x_train", "y_train", "x_test", "y_test"), True),
        (("x_train", "y_train", "x_val", "y_val"), True),
        (("X_train", "y_train", "X_test", "y_test"), True),
        (("train_images", "train_labels", "test_images", "test_labels"), True),
        (("images", "labels"), False),
        (("x", "y"), False),
        (("X", "y"), False),
        (("data", "labels"), False),
    ],
)
def test_names_of_arrays(npz, names, split):
    values = [pictures(2), [0, 1], pictures(2), [1, 1]]
    file = npz(**dict(zip(names, values, strict=False)))
    train = open_source(file, split="train")
    assert train.labels.tolist() == [0, 1]
    assert train.has_test_split == split
    if split:
        assert open_source(file, split="test").labels.tolist() == [1, 1]
    else:
        with pytest.raises(UsageError, match=r"pack.npz is not split"):
            open_source(file, split="test")


def test_a_validation_part_beside_both_is_left_out_and_named(npz):
    x = pictures(2)
    file = npz(x_train=x, x_test=x, x_val=pictures(3), y_val=[1, 0, 1], y_train=[0, 1])
    source = open_source(file, split="train")
    assert len(source) == 2
    assert source.left_out == [("x_val", "3 images outside both parts")]
    everything = open_source(file)
    assert everything.left_out == []
    assert everything.labels.tolist() == [0, 1, -1, -1, 1, 0, 1]


def test_labels_may_be_absent_named_words_columns_or_negative(npz):
    x = pictures(3)
    assert not open_source(npz(x_train=x)).has_labels
    named = open_source(npz(x_train=x, y_train=[2, 0, 2], class_names=["a", "b", "c"]))
    assert named.class_names == ["a", "b", "c"]
    assert named.labels.tolist() == [2, 0, 2]
    words = open_source(npz(images=x, labels=["dog", "cat", "dog"]))
    assert words.class_names == ["cat", "dog"]
    assert words.labels.tolist() == [1, 0, 1]
    ordered = open_source(npz(images=x, labels=["dog", "cat", "dog"], class_names=["dog", "cat"]))
    assert ordered.labels.tolist() == [0, 1, 0]
    assert open_source(npz(x=x, y=[[5], [4], [5]])).labels.tolist() == [1, 0, 1]
    assert open_source(npz(x=x, y=[5.0, 4.0, 5.0])).labels.tolist() == [1, 0, 1]
    partly = open_source(npz(x=x, y=[-1, 4, 5]))
    assert partly.labels.tolist() == [-1, 0, 1]
    assert partly.class_names == ["4", "5"]
    several = open_source(npz(x=x, y=np.eye(3, dtype=int)))
    assert not several.has_labels
    half = open_source(npz(x_train=x, x_test=x, y_test=[0, 1, 2]))
    assert half.labels.tolist() == [-1, -1, -1, 0, 1, 2]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.array([[[0, 255], [7, 8]]], np.uint8), [[0, 255], [7, 8]]),
        (np.array([[[0, 65535], [257 * 7, 128]]], np.uint16), [[0, 255], [7, 0]]),
        (np.array([[[False, True], [True, False]]]), [[0, 255], [255, 0]]),
        (np.array([[[0.0, 1.0], [0.5, 0.25]]], np.float32), [[0, 255], [128, 64]]),
        (np.array([[[0.0, 255.0], [99.6, 8.0]]]), [[0, 255], [100, 8]]),
        (np.array([[[0, 255], [7, 8]]], np.int64), [[0, 255], [7, 8]]),
    ],
)
def test_numbers_become_bytes(images, expected):
    grey = ArraySource(images, name="x").read(0)
    assert grey.shape == (3, 2, 2)
    np.testing.assert_array_equal(grey, [expected] * 3)


def test_axes_and_channels():
    x = pictures(2, 6, 7, 3)
    last, first = ArraySource(x, name="x"), ArraySource(np.moveaxis(x, 3, 1), name="x")
    assert torch.equal(last.read(1), first.read(1))
    one = ArraySource(x[..., :1], name="x").read(0)
    assert torch.equal(one, torch.from_numpy(x[0, ..., 0].copy()).expand(3, 6, 7))
    rgba = pictures(1, 4, 4, 4)
    alpha = rgba[..., 3:] / 255
    reading = Reading(channels=Channels.parse("rgba"))
    shown = ArraySource(rgba, name="x").read_as(reading).read(0).permute(1, 2, 0).numpy()
    assert np.abs(shown - (rgba[0, ..., :3] * alpha[0] + 255 * (1 - alpha[0]))).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (-np.ones((1, 2, 2)), "from -1 to -1; expected bytes, or floats that fill"),
        (np.full((1, 2, 2), np.nan), "from nan to nan"),
        (np.full((1, 2, 2), 16.0), "from 16 to 16; expected bytes"),
        (np.full((1, 2, 2), 300), "from 300 to 300"),
    ],
)
def test_numbers_of_an_unknown_scale_are_not_read(npz, images, said):
    with pytest.raises(UnreadableImageError, match=said):
        open_source(npz(x=images)).image(0)


REFUSED = {
    "no images": ({"y_train": [1]}, r"it holds y_train \(1,\); expected x_train"),
    "nothing": ({}, "it holds no arrays; expected x_train"),
    "jpeg bodies": ({"jpeg_header": [1]}, "Decode its JPEG bodies to plain arrays first"),
    "flat": ({"x": np.zeros((3, 64))}, r"x has shape \(3, 64\); expected \(n, h, w\)"),
    "channels that could be anything": ({"x": np.zeros((3, 8, 8, 8))}, r"\(n, channels, h, w\)"),
    "none": ({"x": np.zeros((0, 8, 8))}, "at least one image"),
    "complex": ({"x": np.zeros((1, 2, 2), complex)}, "numbers of complex128"),
    "objects": ({"x": np.array([[[None]]])}, "pickled objects, which can run code"),
    "object labels": ({"x": np.zeros((1, 2, 2)), "y": np.array([{}])}, "pickled objects"),
    "too few labels": ({"x": np.zeros((3, 2, 2)), "y": [1, 2]}, r"y has shape \(2,\) for 3 images"),
    "fractions": ({"x": np.zeros((2, 2, 2)), "y": [0.5, 1]}, "y holds float64; expected one integer"),
    "mixed": (
        {"x_train": pictures(1), "y_train": [1], "x_test": pictures(1), "y_test": ["a"]},
        "numbers in one part and words in the other",
    ),
    "unequal parts": ({"x_train": pictures(1, 4, 4), "x_test": pictures(1, 5, 5)}, "dimension"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_contents_are_refused_in_words(npz, case):
    arrays, message = REFUSED[case]
    with pytest.raises(UsageError, match=message) as refused:
        open_source(npz(**arrays))
    assert "pack.npz cannot be used" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damaged_files_are_refused(npz, tmp_path):
    file = npz(x_train=pictures(20))
    body = file.read_bytes()
    file.write_bytes(body[: len(body) // 2])
    with pytest.raises(UsageError, match=r"pack.npz cannot be used"):
        open_source(file)
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 0xFF
    file.write_bytes(bytes(damaged))
    with pytest.raises(UsageError, match=r"pack.npz cannot be used"):
        open_source(file)
    with zipfile.ZipFile(file, "w") as archive:  # a header that promises more than there is memory
        header = (
            b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999, 8, 8), }".ljust(117) + b"\n"
        )
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UsageError, match=r"pack.npz cannot be used"):
        open_source(file)


def test_npy(tmp_path):
    file = tmp_path / "pack.npy"
    x = pictures(3)
    np.save(file, x)
    source = open_source(file, split="train")
    assert len(source) == 3
    assert not source.has_test_split
    np.testing.assert_array_equal(source.read(2).permute(1, 2, 0), x[2])
    with pytest.raises(UsageError, match="not split"):
        open_source(file, split="test")
    np.save(file, np.array([{}]), allow_pickle=True)
    with pytest.raises(UsageError, match="pickled objects"):
        open_source(file)
    np.savez(tmp_path / "other.npz", x=x)
    (tmp_path / "other.npz").rename(file)
    with pytest.raises(UsageError, match=r"an .npz by its content"):
        open_array_file(file)


def test_the_lossless_cifar_pack(real_data):
    source = open_source(real_data / "cifar10_lossless4k.npz", split="train")
    assert len(source) == 4000
    assert source.class_names[0] == "airplane"
    assert np.bincount(source.labels).tolist() == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    images = load_images(source.subset(np.arange(50)), 32)
    with np.load(real_data / "cifar10_lossless4k.npz") as pack:
        np.testing.assert_array_equal(images.images.permute(0, 2, 3, 1), pack["x_train"][:50])
    with pytest.raises(UsageError, match="Decode its JPEG bodies"):
        open_source(real_data / "cifar10_jpeg.npz")


@pytest.mark.parametrize(
    ("pack", "train", "test", "classes"),
    [("imagenette128", 5000, 1500, 10), ("dtd10_160", 800, 400, 10), ("galaxy_rings128", 376, 94, 2)],
)
def test_the_packed_folders(real_data, pack, train, test, classes):
    source = open_source(real_data / f"{pack}.zip", split="train")
    assert len(source) == train
    assert len(open_source(real_data / f"{pack}.zip", split="test")) == test
    assert len(source.class_names) == classes
    assert set(np.bincount(source.labels)) == {train // classes}
    images = load_images(source.subset(np.arange(0, train, train // 40)), 48)
    assert images.images.shape[1:] == (3, 48, 48)
    assert not images.skipped


def test_an_array_file_of_one_picture_in_colour_is_one_picture(tmp_path, npz):
    values = pictures(12, 9, 3)
    np.save(tmp_path / "one.npy", values)
    source = open_source(tmp_path / "one.npy")
    assert len(source) == 1
    np.testing.assert_array_equal(source.read(0).permute(1, 2, 0), values)
    with pytest.raises(UsageError, match=r"images has shape \(12, 9, 3\): one picture"):
        open_source(npz(images=values))


def header_of(shape: str, kind: str = "|u1") -> bytes:
    words = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + len(words).to_bytes(2, "little") + words.encode()


LIES = {
    "(1000000, 1000, 1000)": "is not all there",
    "(-1, 4, 4)": "is not all there",
    "(4, 4": "damaged at the header",
    "(True, 'a', 4)": "damaged at the header",
    f"({10**30}, 4, 4)": "is not all there",
    "(0, 9, 9)": "at least one image",
}


@pytest.mark.parametrize("shape", LIES)
def test_what_a_header_says_is_compared_with_what_is_there(tmp_path, shape):
    body = header_of(shape) + bytes(500)
    (tmp_path / "x.npy").write_bytes(body)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", body)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UsageError, match=f"{name} cannot be used: .*{LIES[shape]}"):
            open_source(tmp_path / name)


def test_arrays_that_do_not_fit_are_refused_before_they_are_read(tmp_path, npz, monkeypatch):
    with zipfile.ZipFile(tmp_path / "wide.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header_of("(1, 20000, 20000)") + bytes(4 * 10**8))
    with pytest.raises(UsageError, match="images of more than the 178,956,970 pixels"):
        open_source(tmp_path / "wide.npz")
    (tmp_path / "wide.npz").unlink()
    monkeypatch.setattr("isosphere.data._limits.host_memory", lambda: 100)
    with pytest.raises(UsageError, match="more than this machine's memory; in an HDF5 file"):
        open_source(npz(images=pictures()))
