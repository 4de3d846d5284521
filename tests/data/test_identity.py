"""Whether images are those of an earlier time: stamps of each, fingerprints of all, links counted once."""

import io
import os
import shutil
import tarfile

import numpy as np
import pytest

from isosphere.data import (
    as_source,
    copied,
    fingerprint,
    first_of_each,
    linked,
    located,
    open_source,
    stamps,
)

from .conftest import picture


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))


def write_shard(file, seeds) -> None:
    with tarfile.open(file, "w") as archive:
        for seed in seeds:
            body = io.BytesIO()
            picture(seed).save(body, "PNG")
            entry = tarfile.TarInfo(f"{seed}.png")
            entry.size = body.tell()
            body.seek(0)
            archive.addfile(entry, body)


def changed(before, after) -> list[bool]:
    return (before != after).any(1).tolist()


def test_a_stamp_changes_with_its_file_alone(make_folder, tmp_path, monkeypatch):
    folder = make_folder(["a/0.png", "b/1.png", "b/2.png"])
    (tmp_path / "classes.txt").write_text("b\na\n")
    listed = f"{folder}?classes={tmp_path / 'classes.txt'}"
    monkeypatch.chdir(tmp_path)
    before = stamps(open_source(folder))
    assert before.all()
    assert len({tuple(row) for row in before.tolist()}) == 3
    np.testing.assert_array_equal(stamps(open_source("pictures")), before)
    np.testing.assert_array_equal(stamps(open_source(listed)), before)
    picture(9).save(folder / "b/1.png")
    os.utime(folder / "b/1.png", (1, 1))
    for spec in (folder, listed):
        assert changed(before, stamps(open_source(spec))) == [False, True, False]
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert changed(before, stamps(open_source("elsewhere"))) == [True] * 3


def test_files_of_equal_length_and_date_in_each_others_place_are_noticed(make_folder, tmp_path):
    """By mv, by an archive that is unpacked anew, by a link that leads elsewhere."""
    folder = make_folder(["a/0.bmp", "a/1.bmp"])
    make_folder(["1.bmp", "0.bmp"], under="other")
    (folder / "link").symlink_to("../other")
    for file in tmp_path.rglob("*.bmp"):
        os.utime(file, (1e9, 1e9))
    before = stamps(open_source(folder))
    np.testing.assert_array_equal(stamps(open_source(folder)), before)
    (folder / "a/0.bmp").rename(folder / "t")
    (folder / "a/1.bmp").rename(folder / "a/0.bmp")
    (folder / "t").rename(folder / "a/1.bmp")
    assert changed(before, stamps(open_source(folder))) == [True, True, False, False]
    before = stamps(open_source(folder))
    (folder / "link").unlink()
    shutil.copytree(tmp_path / "other", tmp_path / "copy")
    (folder / "link").symlink_to("../copy")
    assert changed(before, stamps(open_source(folder))) == [False, False, True, True]


def test_images_of_archives_change_with_the_archive(tmp_path, make_folder):
    for k in range(2):
        write_shard(tmp_path / f"s-{k}.tar", range(2 * k, 2 * k + 2))
    pattern = str(tmp_path / "s-{0..1}.tar")
    before = stamps(open_source(pattern))
    assert len({tuple(row) for row in before.tolist()}) == 4
    write_shard(tmp_path / "s-1.tar", (2, 5))
    os.utime(tmp_path / "s-1.tar", (1, 1))
    assert changed(before[:3], stamps(open_source(pattern))[:3]) == [False, False, True]
    packed = shutil.make_archive(str(tmp_path / "pack"), "zip", make_folder(["a.png", "b.png"]))
    before = stamps(open_source(packed))
    os.utime(packed, (1, 1))
    assert changed(before, stamps(open_source(packed))) == [True, True]


def test_numbers_in_memory_are_their_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images)
    before = stamps(open_source(tmp_path / "a.npz"))
    images[2] += 1
    np.savez(tmp_path / "a.npz", x=images)
    assert changed(before, stamps(open_source(tmp_path / "a.npz"))) == [False, False, True, False]
    assert stamps(open_source("textures:wood?count=4&test=2&size=16")).all()


def test_a_fingerprint_is_of_the_images_wherever_they_lie(make_folder, tmp_path):
    folder = make_folder(["a/0.png", "a/1.png", "b/2.png"])
    before = fingerprint(open_source(folder))
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)  # with other times
    assert fingerprint(open_source(tmp_path / "moved")) == before
    packed = shutil.make_archive(str(tmp_path / "pack"), "zip", folder)
    assert fingerprint(open_source(packed)) == before
    moved = tmp_path / "moved"
    (moved / "a/0.png").rename(moved / "a/9.png")
    renamed = fingerprint(open_source(moved))
    picture(7).save(moved / "a/9.png")
    (folder / "b/2.png").unlink()
    assert len({before, renamed, *(fingerprint(open_source(f)) for f in (moved, folder))}) == 4


def test_a_fingerprint_is_of_all_numbers_in_memory():
    images = np.random.default_rng(0).integers(0, 256, (600, 2, 2), dtype=np.uint8)
    before = fingerprint(as_source(images))
    images[1] += 1  # none of those that are looked at of files
    assert fingerprint(as_source(images)) != before


def test_of_a_data_set_those_items_count_that_are_the_same_again():
    class Pictures:
        def __init__(self, give):
            self.give = give

        def __len__(self):
            return 64

        def __getitem__(self, i):
            return self.give(i)

    def fails(i):
        raise OSError

    plain, same, other, chance, failing = (
        fingerprint(as_source(Pictures(give)))
        for give in (
            picture,
            lambda i: picture(i),
            lambda i: picture(i + 300),
            lambda i: picture(int(np.random.default_rng().integers(10**6))),
            fails,
        )
    )
    assert plain == same
    assert len({plain, other, failing}) == 3
    assert chance == failing
    assert not stamps(as_source(Pictures(fails))).any()


def test_links_are_the_file_that_they_lead_to(make_folder):
    folder = make_folder(["0.png", "1.png"])
    os.link(folder / "1.png", folder / "2.png")
    (folder / "3.png").symlink_to(folder / "0.png")
    shutil.copyfile(folder / "0.png", folder / "4.png")
    (folder / "5.png").symlink_to("nowhere")
    assert first_of_each(open_source(folder)).tolist() == [0, 1, 4, 5]


def test_a_location_is_the_same_from_every_folder(make_folder, tmp_path, monkeypatch):
    folder = make_folder(["a/0.png", "b/1.png"])
    monkeypatch.chdir(tmp_path)
    assert located("pictures") == located("./pictures/") == located(folder) == str(folder.resolve())
    assert located("pictures?classes=c.txt") == f"{folder.resolve()}?classes={tmp_path.resolve() / 'c.txt'}"
    assert located("s-{0..1}.tar") == str(tmp_path.resolve() / "s-{0..1}.tar")
    assert located("galaxy10:g.h5") == f"galaxy10:{tmp_path.resolve() / 'g.h5'}"
    assert located("torchvision:MNIST:.") == f"torchvision:MNIST:{tmp_path.resolve()}"
    assert located("textures:wood?count=4") == "textures:wood?count=4"
    monkeypatch.chdir(folder)
    assert located("../pictures") == open_source("../pictures").location
    assert open_source(".", split=None).subset([0]).location == ""
    assert as_source(np.zeros((2, 5, 5), np.uint8)).location == ""


def test_files_under_several_names_are_said(make_folder):
    folder = make_folder(["cat/0.png", "cat/1.png", "dog/2.png"])
    assert linked(open_source(folder)) is None
    (folder / "eel").symlink_to("cat")
    assert linked(open_source(folder)) == (
        "2 files of pictures are listed under another name too, by links, 2 of them in another class "
        "(eel/0.png is cat/0.png): they count twice."
    )


def test_copies_across_the_split_and_with_other_labels_are_said():
    train, test = np.array([[1, 1], [2, 2], [0, 0]]), np.array([[2, 2], [3, 3], [0, 0], [3, 3]])
    labels = np.array([0, 1, 0]), np.array([1, 0, 1, 1])
    leaked, apart = copied(train, test, labels, (["a", "b", "c"], ["d", "e", "f", "g"]))
    assert leaked.startswith("1 test image is a copy of training images (d of b)")
    assert apart == "1 image has copies with another label (g and e)."
    assert copied(train, test[1:3], (labels[0], labels[1][1:3]), (["a", "b", "c"], ["e", "f"])) == []
