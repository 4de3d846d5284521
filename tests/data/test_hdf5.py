"""Images in HDF5 files that the tests write: Galaxy10's own form, and others."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch

from isosphere.data import Loader, load_images, open_source
from isosphere.data._decode import UnreadableImageError
from isosphere.data._hdf5 import GALAXY10, Hdf5Source

from .conftest import refusal

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


@pytest.fixture
def write(tmp_path):
    """Write data sets by name; a tuple is the data and how they are stored."""

    def write(name="set.h5", **data):
        with h5py.File(tmp_path / name, "w") as archive:
            for key, value in data.items():
                values, storage = value if isinstance(value, tuple) else (value, {})
                archive.create_dataset(key.replace("__", "/"), data=values, **storage)
        return tmp_path / name

    return write


def colours(n=20, side=8):
    return RNG.integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "storage",
    [{}, {"chunks": (1, 8, 8, 3), "compression": "gzip"}, {"chunks": (7, 4, 4, 1), "compression": "lzf"}],
)
def test_galaxy10_as_it_lies_on_disk(write, storage):
    images, labels = colours(), RNG.integers(0, 10, 20).astype(np.uint8)
    labels[:10] = np.arange(10)
    file = write(
        "Galaxy10_DECals.h5",
        images=(images, storage),
        ans=labels,
        ra=np.zeros(20),
        dec=np.zeros(20),
        redshift=np.ones(20),
    )
    for spec in (f"galaxy10:{file}", f"galaxy10:{file.parent}", file):
        source = open_source(spec)
        assert isinstance(source, Hdf5Source)
        assert len(source) == 20
        assert source.labels.tolist() == labels.tolist()
        for i in RNG.permutation(20):
            np.testing.assert_array_equal(source.read(i).permute(1, 2, 0), images[i])
        assert source.paths[3] == "images/3"
        assert not source.has_test_split
    assert len(source.class_names) == 10


@pytest.mark.parametrize("side", GALAXY10)
def test_galaxy10_knows_its_classes(write, side):
    file = write("Galaxy10.h5", images=np.zeros((10, side, side, 3), np.uint8), ans=np.arange(10))
    assert open_source(f"galaxy10:{file}").class_names == list(GALAXY10[side])
    assert open_source(file).class_names == [str(k) for k in range(10)]


def test_other_names_shapes_and_numbers(write):
    grey, deep = RNG.integers(0, 256, (4, 6, 6), dtype=np.uint8), np.full((2, 3, 6, 6), 65535, np.uint16)
    file = write(
        x_train=grey,
        y_train=[3, 1, 3, 1],
        x_test=deep,
        y_test=[1, 7],
        class_names=[f"c{k}" for k in range(8)],
    )
    train, test, both = (open_source(file, split=s) for s in ("train", "test", None))
    assert (len(train), len(test), len(both)) == (4, 2, 6)
    assert train.has_test_split
    assert test.labels.tolist() == [1, 7]
    assert train.class_names == test.class_names == [f"c{k}" for k in range(8)]
    np.testing.assert_array_equal(train.read(2), np.repeat(grey[2][None], 3, 0))
    assert (both.read(5) == 255).all()
    words = write(
        "b.hdf5", train__images=colours(3), train__labels=["cat", "ape", "cat"], test__images=colours(2)
    )
    assert open_source(words, split="train").labels.tolist() == [1, 0, 1]
    assert open_source(words, split="test").labels.tolist() == [-1, -1]
    assert open_source(words).class_names == ["ape", "cat"]
    assert not open_source(write("c.h5", data=colours(2))).has_labels
    unnamed = write("d.bin", x=colours(2), y=[0, 1])
    assert open_source(unnamed).labels.tolist() == [0, 1]


def test_workers_and_threads_and_other_processes_read_the_same(write):
    images = colours(23)
    source = open_source(write(images=(images, {"chunks": (5, 8, 4, 3), "compression": "gzip"})))
    source.read(0)  # the file is open in this process when the workers fork
    memory = load_images(source, 8, workers=4)
    np.testing.assert_array_equal(memory.images.permute(0, 2, 3, 1), images)
    streamed, held = Loader(source, size=8, batch_size=4, workers=2), Loader(memory, batch_size=4)
    for a, b in zip(streamed.epoch(1), held.epoch(1), strict=True):
        assert torch.equal(a.images, b.images)
    twin = pickle.loads(pickle.dumps(source))
    assert torch.equal(twin.read(22), source.read(22))


def test_a_damaged_chunk_costs_its_own_images(write):
    images = colours(20)
    file = write(images=(images, {"chunks": (5, 8, 8, 3), "compression": "gzip"}))
    with h5py.File(file) as archive:
        chunk = archive["images"].id.get_chunk_info(1)
    with file.open("r+b") as stream:
        stream.seek(chunk.byte_offset + 20)
        stream.write(b"\xff" * 40)
    source = open_source(file)
    with pytest.raises(UnreadableImageError, match=r"[Cc]an't"):
        source.read(7)
    found = load_images(source, 8)
    assert [path for path, _ in found.skipped] == [f"images/{i}" for i in range(5, 10)]
    np.testing.assert_array_equal(source.read(10).permute(1, 2, 0), images[10])


def test_other_contents_are_refused_with_what_they_are(write, tmp_path):
    spectra = write("a.h5", spectra=np.zeros((3, 100)), group__ra=np.zeros(3))
    assert "a.h5 cannot be used: it holds group/ra (3,), spectra (3, 100); expected x_train" in refusal(
        spectra
    )
    assert "it holds no arrays" in refusal(write("b.h5"))
    assert "images has shape (3, 100); expected (n, h, w)" in refusal(
        write("c.h5", images=np.zeros((3, 100), "u1"))
    )
    with pytest.raises(UnreadableImageError, match="floats have no scale of their own: give"):
        open_source(write("d.h5", images=np.zeros((3, 6, 6)))).image(0)
    assert "ans has shape (2,) for 3 images" in refusal(write("e.h5", images=colours(3), ans=[1, 2]))
    assert "is not split" in refusal(write("f.h5", images=colours(3)), split="test")
    (tmp_path / "g.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    assert "g.h5 cannot be used: " in refusal(tmp_path / "g.h5")
    whole = write("h.h5", images=colours(50))
    os.truncate(whole, 3000)
    assert "h.h5 cannot be used: " in refusal(whole)
    for typed in ("galaxy10:", f"galaxy10:{tmp_path}/absent.h5", "galaxy10"):
        assert "expected galaxy10:PATH with the path of Galaxy10_DECals.h5" in refusal(typed)


def test_without_h5py(write, monkeypatch):
    file = write(images=colours(3))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert (
        "is an HDF5 file, and h5py, which reads them, is not installed. Type: pip install h5py."
        in refusal(file)
    )


def test_what_lies_in_other_files_is_not_read(tmp_path):
    (tmp_path / "secret.txt").write_bytes(bytes(range(64)) * 3)
    with h5py.File(tmp_path / "outside.h5", "w") as archive:
        archive.create_dataset("images", (1, 8, 8, 3), "u1", external=[(tmp_path / "secret.txt", 0, 192)])
    layout = h5py.VirtualLayout((4, 8, 8, 3), "u1")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "images", (4, 8, 8, 3))
    with h5py.File(tmp_path / "virtual.h5", "w") as archive:
        archive.create_virtual_dataset("images", layout)
    with h5py.File(tmp_path / "labels.h5", "w") as archive:
        archive["images"] = colours(4)
        archive.create_dataset("labels", (4,), "u1", external=[(tmp_path / "secret.txt", 0, 4)])
    for name, what in (("outside", "images"), ("virtual", "images"), ("labels", "labels")):
        assert f"the numbers of {what} lie in other files, which are not read" in refusal(
            tmp_path / f"{name}.h5"
        )


@pytest.mark.parametrize(
    ("shape", "storage", "said"),
    [
        ((4, 30_000, 30_000, 3), {}, "images of more than the 178,956,970 pixels"),
        (
            (40, 5000, 5000),
            {"chunks": (1, 500, 500), "compression": "gzip"},
            "promises 40 images, 1,000,000,000 bytes",
        ),
        ((10**12, 1, 1), {"chunks": (10**6, 1, 1)}, "promises 1,000,000,000,000 images"),
        ((100, 9000, 9000, 3), {"chunks": (100, 2000, 2000, 3)}, "and stores 0 bytes"),
    ],
)
def test_a_small_file_that_promises_much_is_refused(tmp_path, shape, storage, said):
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        archive.create_dataset("images", shape, "u1", **storage)
    assert said in refusal(tmp_path / "a.h5")
