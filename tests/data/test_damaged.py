"""Damaged files of every format that is read: an error in words or a picture, and never somebody else's traceback."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from isosphere.data import UnreadableImageError, decode, open_source
from isosphere.data._class_list import read_class_list
from isosphere.data._label_map import read_label_map
from isosphere.errors import IsosphereError

from .conftest import picture, refusal

SEED = 20261130
PICTURES = {
    "png": {},
    "jpeg": {"exif": True},
    "tiff": {"compression": "tiff_lzw"},
    "gif": {},
    "bmp": {},
    "webp": {},
    "ppm": {},
    "jpeg2000": {},
    "avif": {},
}


def mutants(body: bytes, count: int) -> Iterator[bytes]:
    """Some bytes set, flipped, cut out, doubled or cut off, most of them near the start, where the headers are."""
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        made = bytearray(body)
        for _ in range(rng.integers(1, 6)):
            end = len(made) if rng.random() < 0.5 else min(len(made), 128)
            at, length = int(rng.integers(end)), int(rng.integers(1, 9))
            how = rng.integers(6)
            if how == 0:
                made[at] ^= 1 << int(rng.integers(8))
            elif how == 1:
                made[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
            elif how == 2:
                made[at : at + length] = bytes([int(rng.choice([0, 255, 127, 128]))]) * length
            elif how == 3:
                made[at:at] = made[at : at + length]
            elif how == 4:
                del made[at : at + length]
            elif rng.random() < 0.2:
                del made[at:]
            if not made:
                break
        yield bytes(made)


def encoded(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    if options.pop("exif", False):
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    picture(1, 24, 20).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_pictures(kind):
    if kind in ("avif", "webp") and not features.check(kind):
        pytest.skip(f"Pillow is built without {kind}")
    shown = 0
    said = []
    for body in mutants(encoded(kind, **PICTURES[kind]), 120):
        try:
            assert decode(body, at_least=8).mode == "RGB"
            shown += 1
        except UnreadableImageError as error:
            said.append(str(error))
    assert all(reason and "\n" not in reason for reason in said)
    assert shown < 120


def pack_npz(file: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    np.savez_compressed(file, x_train=pixels, y_train=np.arange(5), class_names=np.array(list("abcde")))


def pack_npy(file: Path) -> None:
    np.save(file, np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8))


def pack_hdf5(file: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    with h5py.File(file, "w") as archive:
        archive.create_dataset("images", data=pixels, chunks=(2, 6, 6, 3), compression="gzip")
        archive["ans"] = np.arange(5)


def pack_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", encoded("png"))


def pack_tar(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        for i in range(3):
            for suffix, body in (("png", encoded("png")), ("cls", b"1"), ("json", b'{"label": 1}')):
                member = tarfile.TarInfo(f"{i:03}.{suffix}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))


PACKS: dict[str, Callable[[Path], None]] = {
    ".npz": pack_npz,
    ".npy": pack_npy,
    ".h5": pack_hdf5,
    ".zip": pack_zip,
    ".tar": pack_tar,
}


@pytest.mark.parametrize("suffix", PACKS)
def test_damaged_containers(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    sound, file = tmp_path / f"sound{suffix}", tmp_path / f"damaged{suffix}"
    PACKS[suffix](sound)
    opened, refused, unreadable = 0, [], []
    for body in mutants(sound.read_bytes(), 100):
        file.write_bytes(body)
        try:
            source = open_source(file)
            opened += 1
        except IsosphereError as error:
            refused.append(str(error))
            continue
        for i in range(min(len(source), 10)):
            try:
                assert source.read(i).shape[0] == 3
            except UnreadableImageError as error:
                unreadable.append(str(error))
    assert opened
    assert refused
    assert all(reason.endswith(".") for reason in refused)
    assert not any("\n" in reason for reason in refused + unreadable)


def test_a_zip_of_the_future(tmp_path):
    pack_zip(tmp_path / "a.zip")
    body = bytearray((tmp_path / "a.zip").read_bytes())
    body[body.index(b"PK\1\2") + 6] = 99  # the version that is needed to read it
    (tmp_path / "a.zip").write_bytes(body)
    assert "cannot be read as a zip archive (zip file version 9.9)" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("read", [read_class_list, read_label_map])
def test_damaged_lists(tmp_path, read):
    file, refused = tmp_path / "list.csv", []
    for body in mutants(
        b"ImageId,PredictionString\nILSVRC2012_val_00048981,n03995372 85 1 499 272\n# x\n", 200
    ):
        file.write_bytes(body)
        try:
            assert len(read(file)) >= 0
        except IsosphereError as error:
            refused.append(str(error))
    assert not any("\n" in reason for reason in refused)
