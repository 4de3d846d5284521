"""Folders and zip archives of images: what is listed, how it is split and labelled, what cannot be read."""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from isosphere.data import UnreadableImageError, as_source, first_of_each, open_source
from isosphere.data._decode import _known_formats
from isosphere.data._folder import FolderSource, is_image_file
from isosphere.data._layout import arrange
from isosphere.data._source import Source, stratified_split
from isosphere.data._zipped import ZipSource
from isosphere.errors import UsageError

from .conftest import picture, refusal


def zip_of(folder: Path, prefix: str = "") -> Path:
    file = folder.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, prefix + str(path.relative_to(folder)))
    return file


SPLIT = ["train/cat/1.png", "train/dog/2.png", "train/dog/3.png", "val/dog/4.png", "val/eel/5.png"]


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a folder around everything"])
def test_split_and_labels_come_from_the_folders(make_folder, kind):
    folder = make_folder(
        [*SPLIT, "labels.csv", "train/.cache/9.png", "__MACOSX/train/cat/._1.png", "train/._2.png"]
    )

    def opened(split) -> Source:
        if kind == "folder":
            return FolderSource(folder, split=split)
        return ZipSource(zip_of(folder, "all/" if "around" in kind else ""), split=split)

    train, test, everything = opened("train"), opened("test"), opened(None)
    assert train.class_names == test.class_names == ["cat", "dog", "eel"]
    assert [Path(p).name for p in train.paths] == ["1.png", "2.png", "3.png"]
    assert train.labels.tolist() == [0, 1, 1]
    assert test.labels.tolist() == [1, 2]
    assert len(everything) == 5
    assert train.has_test_split
    assert test.has_test_split
    assert train.has_labels
    assert train.labels.dtype == np.int64
    assert train.unreadable == train.left_out == []
    picture = test.read(1)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 12, 12)


LAYOUTS = {
    "flat": (["b.png", "a.png"], [-1, -1], []),
    "one class is none": (["cat/a.png", "cat/b.png"], [-1, -1], []),
    "classes": (["cat/a.png", "dog/x/y/b.png"], [0, 1], ["cat", "dog"]),
    "classes below a folder around everything": (["set/cat/a.png", "set/dog/b.png"], [0, 1], ["cat", "dog"]),
    "loose images beside classes": (["a.png", "cat/b.png", "dog/c.png"], [-1, 0, 1], ["cat", "dog"]),
    "a class called train": (["bus/a.png", "train/b.png"], [0, 1], ["bus", "train"]),
    "val without train": (["val/cat/a.png", "val/dog/b.png"], [0, 1], ["cat", "dog"]),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_without_a_split(case):
    members, labels, names = LAYOUTS[case]
    for split in (None, "train"):
        layout = arrange(members, split, "x")
        assert (layout.members, layout.labels.tolist(), layout.class_names) == (members, labels, names)
        assert not layout.has_test_split
    with pytest.raises(UsageError, match=r"x is not split.*test=\.\.\."):
        arrange(members, "test", "x")


def test_layouts_with_a_split():
    alone = arrange(["train/cat/a.png", "train/dog/b.png"], "train", "x")
    assert alone.labels.tolist() == [0, 1]
    assert not alone.has_test_split
    with pytest.raises(UsageError, match="not split"):
        arrange(["train/a.png"], "test", "x")

    members = ["Training/a.png", "TEST/b.png"]
    assert arrange(members, "train", "x").members == ["Training/a.png"]
    assert arrange(members, "test", "x").members == ["TEST/b.png"]

    members = ["logo.png", "masks/a.png", "masks/b.png", "test/c.png", "train/d.png", "val/e.png"]
    layout = arrange(members, "train", "x")  # a test/ wins over a val/
    assert layout.members == ["train/d.png"]
    remarks = [
        (p, f"{n} images outside train/ and test/") for p, n in (("./", 1), ("masks/", 2), ("val/", 1))
    ]
    assert layout.left_out == remarks
    assert arrange(members, "test", "x").left_out == remarks
    assert arrange(members, None, "x").left_out == []

    members = ["test/images/cat/a.png", "train/images/dog/b.png"]
    assert arrange(members, "train", "x").class_names == ["cat", "dog"]
    assert arrange(members, "train", "x").labels.tolist() == [1]


def test_all_that_was_named_is_taken_without_a_split():
    members = [
        *("extra/a/0.png", "loose.png", "test/a/1.png", "train/a/2.png", "train/b/3.png"),
        *("val/b/4.png", "val/c/5.png", "val/6.png"),
    ]
    layout = arrange(members, None, "x")
    assert layout.members == members
    assert layout.positions == list(range(8))
    assert layout.class_names == ["a", "b"]
    assert layout.labels.tolist() == [-1, -1, 0, 0, 1, 1, -1, -1]
    within = [f"{name.replace('/', '/images/', 1)}" for name in members]
    assert arrange(within, None, "x").labels.tolist() == layout.labels.tolist()
    assert arrange(members, "train", "x").labels.tolist() == [0, 1]
    assert arrange(members, "test", "x").labels.tolist() == [0]


def test_a_run_is_no_images_and_its_pictures_are_none_of_the_folder_around_it(make_folder):
    folder = make_folder(["cat/a.png", "r/views.png", "r/checkpoints/x.png"])
    assert len(open_source(folder)) == 3
    for name in ("config.yaml", "encoder.json"):
        (folder / "r" / name).write_text("{}")
    around = open_source(folder)
    assert (around.paths, around.left_out) == (["cat/a.png"], [("r/", "a run")])
    assert "r is a run, not images. Give images." in refusal(folder / "r")
    (folder / "r" / "images.json").write_text('{"source": "pics", "location": "/data/pics"}')
    assert "Its images were /data/pics: give these" in refusal(folder / "r")


def test_links_are_followed_without_going_in_circles(make_folder, tmp_path):
    folder = make_folder(["cat/a.png", "dog/b.png"])
    elsewhere = make_folder(["c.png"], under="elsewhere")
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "dog" / "away").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder / "dog")
    (folder / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "dog" / "self.png").symlink_to(folder / "dog" / "self.png")
    source = FolderSource(folder)
    assert source.paths == ["cat/a.png", "dog/away/c.png", "dog/b.png", "dog/gone.png", "dog/self.png"]
    assert source.read(1).shape == (3, 12, 12)
    with pytest.raises(UnreadableImageError, match="no such file"):
        source.read(3)
    with pytest.raises(UnreadableImageError, match="symbolic links"):
        source.read(4)


def test_a_split_of_links_into_one_folder_beside_it(make_folder):
    folder = make_folder(["all/a/0.png", "all/b/1.png", "all/a/2.png", "all/b/3.png"])
    for part, name in (("train", "0.png"), ("train", "1.png"), ("test", "2.png"), ("test", "3.png")):
        label = "ab"[int(name[0]) % 2]
        (folder / part / label).mkdir(parents=True, exist_ok=True)
        (folder / part / label / name).symlink_to(folder / "all" / label / name)
    (folder / "val").mkdir()
    for label in "ab":
        (folder / "val" / label).symlink_to(folder / "all" / label)
    train, test, everything = (open_source(folder, split=split) for split in ("train", "test", None))
    assert (train.paths, test.paths) == (["train/a/0.png", "train/b/1.png"], ["test/a/2.png", "test/b/3.png"])
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]
    assert train.left_out == [(f"{place}/", "4 images outside train/ and test/") for place in ("all", "val")]
    assert len(everything) == 12
    assert len(first_of_each(everything)) == 4


def test_links_that_lead_to_each_other_end(make_folder):
    folder = make_folder([f"{name}/x.png" for name in "abcdefgh"])
    for one in "abcdefgh":
        for other in set("abcdefgh") - {one}:
            (folder / one / f"to-{other}").symlink_to(folder / other)
    source = FolderSource(folder)
    assert 8 <= len(source) <= 800
    assert source.unreadable[0][1] == "100 links lead there already"


@pytest.mark.parametrize("packed", [False, True])
def test_files_without_an_ending_are_images_by_their_content(make_folder, packed):
    folder = make_folder(["cat/a.png", "cat/IMG_0001", "dog/scan.001", "dog/LICENSE", "dog/b.txt"])
    for name, kind in (("cat/IMG_0001", "JPEG"), ("dog/scan.001", "TIFF")):
        picture(7).save(folder / name, kind)
    picture(8).save(folder / "dog" / "b.txt", "PNG")  # its name says that it is text
    source = open_source(zip_of(folder) if packed else folder)
    assert source.paths == ["cat/IMG_0001", "cat/a.png", "dog/scan.001"]
    assert source.labels.tolist() == [0, 0, 1]
    assert source.read(2).shape == (3, 12, 12)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF"])
def test_every_format_is_known_by_its_content(kind, tmp_path):
    if kind not in _known_formats():
        pytest.skip(f"this Pillow does not read {kind}")
    picture().save(tmp_path / "IMG", kind)
    assert is_image_file(tmp_path / "IMG")


def test_folders_of_a_zip_may_be_parted_by_backslashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for seed, name in enumerate(
            ("train\\a\\0.png", "train\\b\\1.png", "test\\a\\2.png", "..\\3.png", "C:\\4.png")
        ):
            stream = io.BytesIO()
            picture(seed).save(stream, "PNG")
            archive.writestr(name, stream.getvalue())
    train, test = (open_source(tmp_path / "w.zip", split=split) for split in ("train", "test"))
    assert (train.paths, test.paths) == (["train/a/0.png", "train/b/1.png"], ["test/a/2.png"])
    assert train.labels.tolist() == [0, 1]
    assert np.array_equal(test.read(0).permute(1, 2, 0).numpy(), np.asarray(picture(2)))
    assert [reason for _, reason in train.unreadable] == ["its name leads out of the archive"] * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_never_opened(make_folder):
    folder = make_folder(["a.png"])
    for name in ("pipe.png", "IMG", "val.txt", "classnames.txt"):
        os.mkfifo(folder / name)
    assert FolderSource(folder).paths == ["a.png"]
    for spec in (folder / "pipe.png", folder / "IMG", "/dev/zero"):
        assert "is a pipe or a device, which could go on for ever" in refusal(spec)
        assert "it is a device or a pipe" in refusal(f"{folder}?classes={spec}")
        with pytest.raises(UnreadableImageError, match="a device or a pipe"):
            as_source([folder / "a.png", spec]).image(1)
    with tarfile.open(folder / "s.tar", "w") as archive:
        archive.add(folder / "a.png", "a.png")
    (folder / "a.png").unlink()
    assert len(open_source(folder)) == 1  # shards, with a pipe for their class names


def test_suffixes_are_read_in_any_case_and_unknown_formats_are_named(make_folder):
    folder = make_folder(["a.png", "notes.txt", "b.JXL", "c.dcm"])
    (folder / "a.png").rename(folder / "A.PNG")
    for source in (FolderSource(folder), ZipSource(zip_of(folder))):
        assert source.paths == ["A.PNG"]
        assert [p for p, _ in source.unreadable] == ["b.JXL", "c.dcm"]
        assert source.unreadable[0][1] == ".jxl is not read here: convert it to .png or .jpg"
        assert source.subset([0]).unreadable == source.unreadable


def test_names_that_are_not_utf8_are_those_that_python_opens(make_folder, tmp_path):
    folder = make_folder(["a.png"])
    try:
        os.rename(os.fsencode(folder / "a.png"), os.fsencode(folder) + b"/\xff.png")  # noqa: PTH104
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    source = FolderSource(folder)
    assert source.paths == ["\udcff.png"]
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(folder / "\udcff.png", "\udcff.png")
    assert open_source(tmp_path / "s.tar").paths == ["s.tar/\udcff.png"]
    assert source.read(0).shape == (3, 12, 12)


def packed(folder: Path, kind: str) -> Path:
    """The folder itself, or a zip or tar of it."""
    if kind == "zip":
        return zip_of(folder)
    if kind == "tar":
        with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
            archive.add(folder, ".")
        return folder.with_suffix(".tar")
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_picture_that_is_called_as_another_format_is_read_by_its_content(make_folder, kind):
    folder = make_folder(["a.png", "b.png", "c.png"])
    (folder / "b.png").rename(folder / "IMG.HEIC")
    (folder / "d.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(99))
    (folder / "e.dng").write_bytes(b"II*\0" + bytes(99))  # a TIFF by its start: the raw data of a camera
    source = open_source(packed(folder, kind))
    assert [Path(p).name for p in source.paths if not p.endswith("d.heic")] == [
        "IMG.HEIC",
        "a.png",
        "c.png",
    ] or kind == "tar"
    assert sorted(Path(p).name for p in source.paths)[0] == "IMG.HEIC"
    assert "e.dng" in {Path(p).name for p, _ in source.unreadable}
    assert all(
        source.read(i).shape == (3, 12, 12) for i in range(len(source)) if "heic" not in source.paths[i]
    )
    assert is_image_file(folder / "IMG.HEIC")


def test_links_in_a_zip_are_followed_as_in_a_tar(make_folder):
    folder = make_folder(["cat/a.png", "dog/b.png"])
    file = zip_of(folder)
    with zipfile.ZipFile(file, "a") as archive:
        for name, target in {
            "dog/c.png": "../cat/a.png",
            "e.png": "dog/c.png",
            "f.png": "gone.png",
            "more": "cat",
        }.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    source = open_source(file)
    assert source.paths == ["cat/a.png", "dog/b.png", "dog/c.png", "e.png"]
    assert torch.equal(source.read(2), source.read(0))
    assert torch.equal(source.read(3), source.read(0))
    assert source.unreadable == [("f.png", "a link to what is no image of the archive")]
    assert source.left_out == [("pictures.zip", "1 link to folders, not followed")]
    assert first_of_each(source).tolist() == [0, 1]


def test_a_folder_that_cannot_be_listed_is_named(make_folder, monkeypatch):
    folder = make_folder(["open/a.png", "shut/b.png"])
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert FolderSource(folder).unreadable == [("shut/", "permission denied")]
    with pytest.raises(UsageError, match=r"shut/ cannot be listed \(permission denied\)"):
        FolderSource(make_folder(["shut/b.png"], under="other"))


def test_folders_without_images_say_what_they_hold(make_folder):
    with pytest.raises(UsageError, match=r"holds no images: it holds no files. Give a folder with .jpg"):
        FolderSource(make_folder([]))
    with pytest.raises(UsageError, match=r"it holds 3 files of other kinds \(2 x .txt, 1 x no suffix\)"):
        FolderSource(make_folder(["a.txt", "b/c.txt", "README"]))
    hidden = make_folder([".a.png", ".git/b.png"], under="hidden")
    with pytest.raises(UsageError, match="it holds no files"):
        FolderSource(hidden)
    with pytest.raises(UsageError, match="it holds no files"):
        ZipSource(zip_of(hidden))


def test_empty_and_huge_files_are_named(make_folder, monkeypatch):
    folder = make_folder(["a.png", "b.png"])
    (folder / "b.png").write_bytes(b"")
    for source in (FolderSource(folder), ZipSource(zip_of(folder))):
        with pytest.raises(UnreadableImageError, match="the file is empty"):
            source.read(1)
        with monkeypatch.context() as patch:
            patch.setattr("isosphere.data._limits.MAX_FILE_BYTES", 50)
            with pytest.raises(UnreadableImageError, match=r"bytes.*more than 50"):
                source.read(0)


def test_a_damaged_or_locked_member_costs_itself_only(make_folder):
    file = zip_of(make_folder(["a.png", "b.png", "c.png"]))
    body = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    body[infos[0].header_offset + 30 + len("a.png") + 40] ^= 0xFF  # a byte of the picture
    body[infos[1].header_offset + 6] |= 1  # the flag of encryption, in the member's own header
    central = body.index(b"PK\x01\x02")
    second = body.index(b"PK\x01\x02", central + 1)
    body[second + 8] |= 1  # and in the directory
    file.write_bytes(bytes(body))
    source = ZipSource(file)
    with pytest.raises(UnreadableImageError, match="CRC"):
        source.read(0)
    with pytest.raises(UnreadableImageError, match="encrypted"):
        source.read(1)
    assert source.read(2).shape == (3, 12, 12)


def test_a_zip_is_read_in_place_and_travels_to_other_processes(make_folder, tmp_path):
    file = zip_of(make_folder(["cat/a.png", "dog/b.png"]))
    before = sorted(tmp_path.rglob("*"))
    source = ZipSource(file)
    first = source.read(0)
    twin = pickle.loads(pickle.dumps(source))
    assert torch.equal(twin.read(0), first)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_lead_out_of_an_archive_are_not_read(make_folder, tmp_path):
    folder, file = make_folder(["a.png", "b.png"]), tmp_path / "slip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(folder / "a.png", "../../a.png")
    with pytest.raises(UsageError, match=r"1 of its members have names that lead out of it \(../../a.png\)"):
        ZipSource(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.write(folder / "b.png", "c..d/b.png")
    source = ZipSource(file)
    assert source.paths == ["c..d/b.png"]
    assert source.unreadable == [("../../a.png", "its name leads out of the archive")]
    assert list(tmp_path.rglob("a.png")) == [folder / "a.png"]


def test_a_broken_archive_is_refused(tmp_path):
    file = tmp_path / "broken.zip"
    file.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UsageError, match=r"broken.zip cannot be read as a zip archive"):
        ZipSource(file)


def test_subsets_and_other_lists_of_classes(make_folder):
    source = FolderSource(make_folder(["cat/a.png", "dog/b.png", "eel/c.png"]))
    part = source.subset([2, 0])
    assert part.paths == ["eel/c.png", "cat/a.png"]
    assert part.labels.tolist() == [2, 0]
    assert torch.equal(part.read(0), source.read(2))
    assert torch.equal(part.subset([1]).read(0), source.read(0))
    renamed = part.with_class_names(["ape", "cat", "dog"])
    assert renamed.labels.tolist() == [-1, 1]
    assert renamed.class_names == ["ape", "cat", "dog"]
    assert part.labels.tolist() == [2, 0]
    assert "3 images, 3 classes" in repr(source)
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="indices reach"):
            source.subset(wrong)


def test_stratified_split_keeps_proportions():
    labels = np.array([0] * 50 + [1] * 10 + [2] + [-1] * 20)
    train, test = stratified_split(labels, test_fraction=0.2, seed=3)
    assert sorted([*train, *test]) == list(range(81))
    assert [(labels[test] == k).sum() for k in (0, 1, 2, -1)] == [10, 2, 0, 4]
    again = stratified_split(labels, test_fraction=0.2, seed=3)
    assert np.array_equal(test, again[1])
    assert not np.array_equal(test, stratified_split(labels, test_fraction=0.2, seed=4)[1])
    assert stratified_split(np.empty(0, np.int64))[1].shape == (0,)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_split(labels, test_fraction=1.0)


def test_members_of_a_zip_that_fall_together_are_named(make_folder, tmp_path):
    folder = make_folder(["0.png", "1.png"])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for place, name in enumerate(("a/1.png", "./a/1.png", "a\\1.png", "b/1.png")):
            archive.writestr(name, (folder / f"{place % 2}.png").read_bytes())
    source = open_source(tmp_path / "z.zip")
    assert source.paths == ["a/1.png", "b/1.png"]
    assert [name for name, _ in source.unreadable] == ["a/1.png", "./a/1.png"]
    assert "is read in its place" in source.unreadable[0][1]
    assert torch.equal(source.read(0), open_source(folder).read(0))
