"""The index: exact, built once, extended by what is new and nothing else."""

import io
import os
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

import isosphere
from isosphere.deploy import Embeddings, Index, open_index

from .conftest import picture


def test_search_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 8)).astype(np.float32)
    queries = rng.normal(size=(7, 8)).astype(np.float32)
    index = Index.of(Embeddings(z, np.full(300, -1), [str(i) for i in range(300)]))
    cosines = (queries @ z.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(z, axis=1)
    for row, matches in zip(cosines, index.search(queries, 9), strict=True):
        assert [m.row for m in matches] == np.argsort(-row)[:9].tolist()
        assert np.allclose([m.similarity for m in matches], np.sort(row)[::-1][:9], atol=1e-5)
        assert all(m.label is None and m.path == str(m.row) for m in matches)
    assert len(index.search(queries[0], 1000)[0]) == 300
    with pytest.raises(ValueError, match="k: got 0"):
        index.search(queries, 0)
    with pytest.raises(ValueError, match="shapes"):
        index.search(queries[:, :5])


@pytest.fixture
def own(trained, tmp_path):
    """A copy of the run whose folder this test may fill."""
    import shutil

    shutil.copytree(trained, tmp_path / "own")
    return isosphere.load(tmp_path / "own", device="cpu")


def test_an_index_is_read_from_no_pipe(own, pictures):
    folder = pictures(["a.png", "b.png"])
    (kept,) = [made.saved for made in [open_index(own, str(folder))] if made.saved]
    kept.unlink()
    os.mkfifo(kept)
    assert figures(open_index(own, str(folder))) == (2, 0, 0)
    assert kept.is_file()


def figures(index):
    return index.added, index.reused, index.removed


def test_only_what_is_new_is_embedded(own, pictures, monkeypatch):
    folder = pictures(["a.png", "c.png", "d.png"])
    first = open_index(own, str(folder))
    assert figures(first) == (3, 0, 0)
    assert first.saved is not None
    assert first.saved.parent == own.folder.path / "search"
    again = open_index(own, folder)
    assert figures(again) == (0, 3, 0)
    assert np.array_equal(again.unit, first.unit)

    picture(9).save(folder / "b.png")  # between the others
    (folder / "d.png").unlink()
    picture(10).save(folder / "c.png")
    os.utime(folder / "c.png", (1, 1))
    now = open_index(own, str(folder))
    assert figures(now) == (2, 1, 2)
    assert now.paths == ["a.png", "b.png", "c.png"]
    plain = own.embed(str(folder))
    assert np.allclose(now.unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)
    assert now.search(own.embed(picture(9)), 1)[0][0].path == "b.png"

    monkeypatch.setattr(type(own), "features", None)  # nothing is left to embed
    assert figures(open_index(own, str(folder))) == (0, 3, 0)


def test_unreadable_images_are_remembered(own, pictures):
    folder = pictures(["a.png", "b.png"])
    (folder / "broken.png").write_bytes(b"\x89PNG")
    first = open_index(own, str(folder))
    assert [path for path, _ in first.skipped] == ["broken.png"]
    again = open_index(own, str(folder))
    assert (again.added, again.reused) == (0, 2)
    assert again.skipped == first.skipped
    (folder / "worse.png").write_bytes(b"\x89PNG")
    assert [p for p, _ in open_index(own, str(folder)).skipped] == ["broken.png", "worse.png"]
    reasons = {"not an image in a format that is read here, or damaged at its start"}
    for _ in range(2):  # found now, and as it was kept
        assert {reason for _, reason in open_index(own, str(folder)).skipped} == reasons
    picture(4).save(folder / "broken.png")
    assert len(open_index(own, str(folder))) == 3


def test_what_leads_nowhere_is_remembered_too_and_keeps_its_place(own, pictures):
    folder = pictures(["a.png", "c.png"])
    (folder / "b.png").symlink_to("../nowhere.png")
    (folder / "d.png").write_bytes(b"\x89PNG")
    first = open_index(own, str(folder))
    (folder / "c.png").write_bytes(b"\x89PNG")
    second, third = (open_index(own, str(folder)) for _ in range(2))
    assert [path for path, _ in first.skipped] == ["b.png", "d.png"]
    assert (
        [path for path, _ in second.skipped]
        == [path for path, _ in third.skipped]
        == ["b.png", "c.png", "d.png"]
    )
    assert [figures(each) for each in (first, second, third)] == [(2, 0, 0), (0, 1, 1), (0, 1, 0)]
    picture(4).save(folder.parent / "nowhere.png")
    assert figures(open_index(own, str(folder))) == (1, 1, 1)


def test_images_that_would_be_decoded_otherwise_are_embedded_anew(own, pictures, monkeypatch):
    folder = str(pictures(["a.png", "b.png"]))
    assert open_index(own, folder).added == 2
    assert open_index(own, folder).added == 0
    monkeypatch.setattr("isosphere.data._pixels.PIXELS", 999)
    assert open_index(own, folder).added == 2


def test_labels_follow_the_folders(own, pictures):
    folder = pictures(["a/0.png", "b/1.png"])
    assert open_index(own, str(folder)).labels.tolist() == [0, 1]
    pictures(["0/2.png"])
    index = open_index(own, str(folder))
    assert index.class_names == ["0", "a", "b"]
    assert index.labels.tolist() == [0, 1, 2]
    assert index.added == 1


def test_an_index_is_of_the_weights_in_memory_whatever_the_folder_holds_by_now(own, pictures):
    folder = str(pictures(["a.png", "b.png"]))
    spec = own.folder.read_encoder()[1]
    own.folder.write_encoder({k: x * 2 for k, x in own.encoder.state_dict().items()}, spec)
    old = open_index(own, folder)  # the training has gone on since the weights were read
    later = isosphere.load(own.folder.path, device="cpu")
    index = open_index(later, folder)
    assert figures(index) == (2, 0, 0)
    assert not np.allclose(index.unit, old.unit)
    assert figures(open_index(later, folder)) == (0, 2, 0)
    assert index.saved is not None
    index.saved.write_bytes(b"damaged")
    assert figures(open_index(later, folder)) == (2, 0, 0)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are text there")
def test_images_that_are_shown_by_one_name_are_told_apart(own, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    picture(2).save(os.fsencode(folder) + b"/\xfe.png")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"\x89PNG")
    for figure in ((2, 0, 0), (0, 2, 0)):
        index = open_index(own, str(folder))
        assert figures(index) == figure
        assert index.paths == ["a.png", "\udcfe.png"]
        assert [path for path, _ in index.skipped] == ["\udcff.png"]
    assert np.allclose(own.embed(picture(2)) @ index.unit[1].numpy(), np.linalg.norm(own.embed(picture(2))))


def test_an_image_that_is_listed_twice_is_one_for_duplicates(own, pictures, tmp_path):
    folder = pictures(["0.png", "1.png"])
    (tmp_path / "l.txt").write_text("pictures/0.png\npictures/0.png\npictures/1.png\n")
    index = open_index(own, str(tmp_path / "l.txt"))
    assert len(index) == 3
    for twice in (str(tmp_path / "l.txt"), f"{folder} + {folder}/../pictures"):
        assert own.dedup(twice, threshold=0.99) == []
    (tmp_path / "l.txt").write_text("pictures/0.png\n")
    assert figures(open_index(own, str(tmp_path / "l.txt"))) == (0, 1, 2)


def test_a_run_that_cannot_be_written_to_is_searched_all_the_same(own, pictures):
    folder = pictures(["a.png", "b.png"])
    (own.folder.path / "search").write_text("in the way")
    index = open_index(own, str(folder))
    assert index.saved is None
    assert len(index) == 2


def test_layers_and_archives_have_their_own(own, tmp_path):
    stack = np.stack([np.asarray(picture(i)) for i in range(3)])
    np.savez(tmp_path / "set.npz", images=stack)
    backbone, head = (open_index(own, tmp_path / "set.npz", layer=layer) for layer in ("backbone", "head"))
    assert (backbone.unit.shape, head.unit.shape) == ((3, 256), (3, 12))
    assert open_index(own, tmp_path / "set.npz", layer="head").reused == 3
    np.savez(tmp_path / "set.npz", images=stack[:2])
    assert figures(open_index(own, tmp_path / "set.npz")) == (0, 2, 1)
    np.savez(tmp_path / "set.npz", images=stack[::-1])
    assert figures(open_index(own, tmp_path / "set.npz")) == (2, 1, 1)


def write_shard(file, seeds):
    with tarfile.open(file, "w") as archive:
        for k, seed in enumerate(seeds):
            body = io.BytesIO()
            picture(seed).save(body, "PNG")
            entry = tarfile.TarInfo(f"{k}.png")
            entry.size = body.tell()
            body.seek(0)
            archive.addfile(entry, body)


def test_the_same_words_in_another_folder_are_other_images(own, pictures, tmp_path, monkeypatch):
    for name, seeds in (("A", (0, 1)), ("B", (2, 3))):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "s-0.tar", seeds)
        pictures([f"{name}/frames/0.png"], under=".")
    for words in ("s-{0..0}.tar", "s-*.tar", "s-0.tar", "frames", "."):
        monkeypatch.chdir(tmp_path / "A")
        first = open_index(own, words)
        assert figures(open_index(own, words)) == (0, len(first), 0)
        monkeypatch.chdir(tmp_path / "B")
        assert figures(open_index(own, words)) == (len(first), 0, 0), words


def test_an_image_that_is_replaced_behind_any_words_is_embedded_again(own, pictures, tmp_path):
    folder = pictures(["a/0.png", "b/1.png"])
    (tmp_path / "classes.txt").write_text("a\nb\n")
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards / "s-0.tar", (0, 1))
    all_words = (folder, f"{folder}?classes={tmp_path / 'classes.txt'}", f"{shards}/s-*.tar", shards)
    for words in all_words:
        assert figures(open_index(own, str(words))) == (2, 0, 0)
        assert figures(open_index(own, str(words))) == (0, 2, 0)  # of shards too
    picture(7).save(folder / "b/1.png")
    os.utime(folder / "b/1.png", (1, 1))
    write_shard(shards / "s-0.tar", (0, 7))
    os.utime(shards / "s-0.tar", (1, 1))
    for words in all_words:
        now = open_index(own, str(words))
        assert now.added >= 1
        assert np.allclose(own.embed(picture(7)) @ now.unit[1].numpy(), np.linalg.norm(own.embed(picture(7))))


def test_one_long_name_makes_the_file_no_larger_than_itself(own, pictures):
    names = [f"{i}.png" for i in range(30)]
    folder = pictures(names)
    deep = "/".join(["d" * 200] * 10)
    plain = open_index(own, str(folder))
    pictures([f"{deep}/x.png"])
    longer = open_index(own, str(folder))
    assert plain.saved == longer.saved
    assert longer.saved is not None
    assert longer.saved.stat().st_size < 31 * (4 * 256 + 100) + 2 * 2010 + 4000
    again = open_index(own, str(folder))
    assert (again.reused, again.paths) == (31, longer.paths)


def test_links_are_one_image_for_duplicates(own, pictures):
    folder = pictures(["0.png", "1.png", "2.png"])
    os.link(folder / "1.png", folder / "3.png")
    (folder / "4.png").symlink_to(folder / "0.png")
    picture(2).save(folder / "5.png")  # a copy is a second file
    assert [group.paths for group in own.dedup(str(folder), threshold=0.9999)] == [("2.png", "5.png")]
    assert len(own.index(str(folder))) == 6


def test_both_engines_find_the_same():
    from isosphere.reductions import _flat_index as flat_index

    if flat_index.find_faiss() is None:
        pytest.skip("faiss is not installed")
    z = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    z[200:] = z[:200]  # every row twice
    index = Index.of(Embeddings(z, np.full(400, -1), [str(i) for i in range(400)]))
    found = [index.search(z[:3], 7, engine=engine) for engine in ("blocked", "faiss")]
    rows = [[[m.row for m in matches] for matches in answer] for answer in found]
    assert rows[0] == rows[1]
    assert [row[:2] for row in rows[0]] == [[i, i + 200] for i in range(3)]


def wide(seed: int, middle: int = 0):
    """A picture of three squares side by side, of which the middle one is by itself."""
    parts = [picture(seed), picture(middle), picture(seed + 1)]
    whole = Image.new("RGB", (84, 28))
    for i, part in enumerate(parts):
        whole.paste(part, (28 * i, 0))
    return whole


def test_search_and_duplicates_look_at_the_whole_picture(run, tmp_path):
    for i in range(3):
        wide(10 * (i + 1)).save(tmp_path / f"{i}.png")
    wide(30).save(tmp_path / "same.png")
    centre = run.embed(str(tmp_path))
    assert np.allclose(centre, centre[:1], atol=1e-5), "embed sees the central square"
    assert run.index(str(tmp_path)).fit == "squeeze"
    (group,) = run.dedup(str(tmp_path), threshold=0.99999)
    assert group.paths == ("2.png", "same.png")
    assert len(run.index(str(tmp_path), fit="crop")) == 4
    ((first, second, third, _),) = run.search(wide(20), str(tmp_path), k=4)
    assert (first.path, first.similarity) == ("1.png", pytest.approx(1, abs=1e-5))
    assert second.similarity < 0.99999
    assert third.similarity < 0.99999


def test_square_pictures_among_others_keep_their_places(own, tmp_path):
    (tmp_path / "mixed").mkdir()
    for i in range(5):
        (wide(i) if i % 2 else picture(i)).save(tmp_path / "mixed" / f"{i}.png")
    whole = own.fitted("squeeze").embed(str(tmp_path / "mixed"))
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    index = own.index(str(tmp_path / "mixed"), layer="backbone")
    assert index.paths == [f"{i}.png" for i in range(5)]
    assert np.allclose(index.unit, expected, atol=1e-5)
