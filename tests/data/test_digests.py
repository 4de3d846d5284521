"""Digests of images: of what is stored, wherever it is stored."""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.data import Source, digests, open_source
from isosphere.data._decode import UnreadableImageError


@pytest.fixture
def folder(make_folder) -> Path:
    return make_folder([f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)])


def shard(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as archive:
        for k, path in enumerate(sorted(folder.rglob("*.png"))):
            body = path.read_bytes()
            entry = tarfile.TarInfo(f"{k:03}.png")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return file


def test_the_digest_is_that_of_the_bytes_of_the_file_in_every_container(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    bodies = [path.read_bytes() for path in sorted(folder.rglob("*.png"))]
    expected = [hashlib.blake2b(body, digest_size=16).digest() for body in bodies]
    archive = shutil.make_archive(str(tmp_path / "pack"), "zip", folder)
    for place in (folder, archive, shard(folder, tmp_path / "a.tar")):
        source = open_source(place)
        assert [source.digest(i) for i in range(6)] == expected
        assert digests(source).tobytes() == b"".join(expected)
        assert digests(source, workers=5).tobytes() == b"".join(expected)
    part = open_source(folder).subset([4, 0])
    assert [part.digest(0), part.digest(1)] == [expected[4], expected[0]]


def test_a_digest_tells_numbers_types_and_shapes_apart(tmp_path):
    rows = np.arange(4 * 6 * 2, dtype=np.uint8).reshape(4, 6, 2)
    seen = {}
    for name, images in {"a": rows, "b": rows.reshape(4, 2, 6), "c": rows[:, :, ::-1]}.items():
        np.savez(tmp_path / f"{name}.npz", x=images)
        found = digests(open_source(tmp_path / f"{name}.npz"))
        assert found.shape == (4, 2)
        assert found.dtype == np.int64
        seen |= {(name, i): tuple(row) for i, row in enumerate(found.tolist())}
    assert len(set(seen.values())) == 12
    again = open_source(tmp_path / "a.npz")
    assert again.digest(3) == np.array(seen["a", 3]).tobytes()


def test_rows_of_hdf5_are_digested_as_they_are_stored(tmp_path):
    h5py = pytest.importorskip("h5py")
    images = np.random.default_rng(0).integers(0, 2**16, (5, 4, 4, 3), dtype=np.uint16)
    for name, kind in (("wide", np.uint16), ("narrow", np.uint8)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as archive:
            archive["images"] = images.astype(kind)
    wide, narrow = (digests(open_source(tmp_path / f"{name}.h5")) for name in ("wide", "narrow"))
    assert len({tuple(row) for row in np.concatenate([wide, narrow]).tolist()}) == 10
    np.savez(tmp_path / "narrow.npz", images=images.astype(np.uint8))
    np.testing.assert_array_equal(narrow, digests(open_source(tmp_path / "narrow.npz")))


def test_textures_have_digests_that_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path))
    first, again = (digests(open_source("textures:wood?count=3&test=1&size=16")) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({tuple(row) for row in first.tolist()}) == 4


def test_bytes_that_cannot_be_had_are_zeros_in_the_table(folder):
    (folder / "cat/1.png").write_bytes(b"")
    (folder / "dog/0.png").unlink()
    (folder / "dog/0.png").symlink_to("nowhere")
    (folder / "dog/1.png").write_bytes(b"no picture, and bytes all the same")
    source = open_source(folder)
    with pytest.raises(UnreadableImageError, match="the file is empty"):
        source.digest(1)
    with pytest.raises(UnreadableImageError, match="no such file"):
        source.digest(3)
    assert (digests(source) == 0).all(1).tolist() == [False, True, False, True, False, False]


class Plain(Source):
    """A source that says nothing of its own about digests."""

    def image(self, i, *, at_least=None):
        return Image.new("RGB", (3, 2 + i))


def test_without_stored_bytes_the_decoded_picture_is_digested():
    source = Plain("plain", ["a", "b"])
    expected = hashlib.blake2b(b"|u1 (3, 2, 3)" + bytes(18), digest_size=16).digest()
    assert source.digest(0) == expected
    assert source.digest(1) != expected
