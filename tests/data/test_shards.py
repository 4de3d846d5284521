"""WebDataset shards, written here by the webdataset package where it is installed and by tarfile where not."""

import io
import json
import os
import tarfile
import warnings

import numpy as np
import pytest
import torch

from isosphere.data import Loader, first_of_each, load_images, open_source
from isosphere.data._braces import expand_braces
from isosphere.data._decode import UnreadableImageError
from isosphere.data._shards import ShardSource
from isosphere.errors import RunError, UsageError

from .conftest import picture, refusal


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))


def body(seed: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, kind)
    return stream.getvalue()


def write_tar(file, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


def write_shards(folder, counts, part="train", first=0) -> None:
    """Shards of that many samples each: a picture of its own seed, and the class seed % 3."""
    seed = first
    for number, count in enumerate(counts):
        members = {}
        for _ in range(count):
            members |= {f"{seed:06d}.png": body(seed), f"{seed:06d}.cls": str(seed % 3).encode()}
            seed += 1
        write_tar(folder / f"{part}-{number:03d}.tar", members)


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path / "shards", [7, 5, 8, 4])
    return tmp_path / "shards"


def test_every_way_of_naming_them_gives_the_same_images(shards, monkeypatch):
    first = open_source(f"{shards}/train-{{000..003}}.tar")
    assert isinstance(first, ShardSource)
    assert len(first) == 24
    assert first.labels.tolist() == [seed % 3 for seed in range(24)]
    assert first.class_names == ["0", "1", "2"]
    assert first.paths[7] == "train-001.tar/000007.png"
    assert first.name == "train"
    for seed in (0, 6, 7, 23):
        assert torch.equal(first.read(seed), torch.from_numpy(np.array(picture(seed))).permute(2, 0, 1))
    monkeypatch.chdir(shards.parent)
    for typed in (shards, f"{shards}/*.tar", "shards/train-{000,001,002,003}.tar", "shards/train-00?.tar"):
        other = open_source(typed)
        assert other.paths == first.paths
        assert torch.equal(other.read(23), first.read(23))
    assert len(open_source(shards / "train-001.tar")) == 5


def test_the_webdataset_package_writes_what_is_read_and_reads_the_same(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wds = pytest.importorskip("webdataset")
        with wds.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=4, verbose=0) as sink:
            for seed in range(10):
                sink.write(
                    {
                        "__key__": f"a/{seed:03d}",
                        "png": picture(seed),
                        "cls": seed % 4,
                        "json": {"label": 99, "caption": "a.b"},
                        "seg.png": picture(100 + seed),
                        "txt": "words",
                    }
                )
        pattern = str(tmp_path / "train-{000000..000002}.tar")
        theirs = list(
            wds.WebDataset(pattern, shardshuffle=False).decode("pil").to_tuple("__key__", "png", "cls")
        )
    ours = open_source(pattern)
    assert [p.partition(".tar/")[2].removesuffix(".png") for p in ours.paths] == [key for key, _, _ in theirs]
    assert ours.labels.tolist() == [label for _, _, label in theirs]
    for i, (_, image, _) in enumerate(theirs):
        np.testing.assert_array_equal(ours.read(i).permute(1, 2, 0), np.asarray(image))
    assert ours.left_out == [
        (f"train-{k:06d}.tar", f"{n} further images of samples with several") for k, n in enumerate((4, 4, 2))
    ]


def test_labels_of_json_of_words_of_folders_and_none(tmp_path):
    def opened(members, **options):
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.tar"
        write_tar(file, members)
        return open_source(file, **options)

    picture = body(1)
    source = opened(
        {
            "a.png": picture,
            "a.json": b'{"label": 7}',
            "b.png": picture,
            "b.json": b'{"cls": 2, "x": true}',
            "c.png": picture,
            "c.json": b"[1",
            "d.png": picture,
            "d.json": b'{"label": true}',
        }
    )
    assert source.labels.tolist() == [1, 0, -1, -1]
    assert source.class_names == ["2", "7"]
    source = opened(
        {"a.png": picture, "a.cls": b"dog\n", "b.cls": b"cat", "b.png": picture, "c.png": picture}
    )
    assert source.class_names == ["cat", "dog"]
    assert source.labels.tolist() == [1, 0, -1]
    train = opened(
        {f"{p}/{c}/{i}.png": picture for p in ("train", "val") for c in "xy" for i in "01"}, split="train"
    )
    assert train.class_names == ["x", "y"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.has_test_split
    bare = opened({"0.png": picture, "1.png": picture, "._2.png": picture, "__meta__": b"", "2.txt": b""})
    assert len(bare) == 2
    assert not bare.has_labels


def test_words_in_the_names_split_and_names_of_classes_stand_beside(tmp_path):
    folder = tmp_path / "set"
    write_shards(folder, [4, 2], "imagenet-train")
    write_shards(folder, [3], "imagenet-validation", first=30)
    write_shards(folder, [2], "imagenet-extra", first=40)
    (folder / "classnames.txt").write_text("ape\nbee\ncat\n")
    train, test, both = (open_source(folder, split=s) for s in ("train", "test", None))
    assert (len(train), len(test), len(both)) == (6, 3, 11)
    assert train.class_names == test.class_names == ["ape", "bee", "cat"]
    assert test.labels.tolist() == [0, 1, 2]
    assert train.has_test_split
    assert train.left_out == [("imagenet-extra-000.tar", "2 images in neither part")]
    assert both.left_out == []
    only = open_source(f"{folder}/imagenet-train-*.tar", split="train")
    assert len(only) == 6
    assert not only.has_test_split
    assert "is not split" in refusal(f"{folder}/imagenet-train-*.tar", split="test")
    nested = tmp_path / "nested"
    write_shards(nested / "train", [3], "a")
    write_shards(nested / "test", [2], "a", first=50)
    assert open_source(nested, split="test").paths == [
        "test/a-000.tar/000050.png",
        "test/a-000.tar/000051.png",
    ]


def test_a_shard_that_ends_too_early_gives_what_lies_before(shards):
    file = shards / "train-001.tar"
    whole = open_source(shards)
    with tarfile.open(file) as archive:
        cut = archive.getmember("000010.png").offset_data + 50
    os.truncate(file, cut)
    source = open_source(shards)
    assert len(source) == 22
    assert source.unreadable == [("train-001.tar", "it ends within 000010.png; the 3 images before are used")]
    assert torch.equal(source.read(9), whole.read(9))
    assert torch.equal(source.read(10), whole.read(12))
    with pytest.raises(UnreadableImageError):  # the whole set was indexed before
        whole.read(11)
    os.truncate(file, 512 * 3 + 100)  # within a header
    assert "the 1 images before are used" in open_source(shards).unreadable[0][1]


def test_what_is_no_shard_is_named_and_the_others_are_read(shards, tmp_path):
    import gzip

    (shards / "train-000.tar").write_bytes(gzip.compress((shards / "train-000.tar").read_bytes()))
    (shards / "train-001.tar").write_bytes(b"")
    (shards / "train-002.tar").write_bytes(b"\x01" * 3000)
    source = open_source(shards)
    assert len(source) == 4
    assert dict(source.unreadable) == {
        "train-000.tar": "it is compressed, and shards are read in place: unpack it to a plain .tar (gunzip, unxz, "
        "unzstd)",
        "train-001.tar": "the file is empty",
        "train-002.tar": "it is no tar file, or damaged at its start",
    }
    assert "holds no images (train-001.tar: the file is empty)" in refusal(shards / "train-001.tar")
    write_tar(tmp_path / "words.tar", {"a.txt": b"x"})
    assert "holds no images. Expected tar files with members such as 000.jpg" in refusal(
        tmp_path / "words.tar"
    )


@pytest.mark.parametrize("suffix", ["pyd", "pickle", "pkl", "pth", "PKL"])
def test_pickled_entries_are_refused(tmp_path, suffix):
    write_tar(tmp_path / "a.tar", {"0.png": body(0), f"0.{suffix}": b"cos\nsystem\n(S'true'\ntR."})
    assert f"holds a pickled entry (0.{suffix}), and reading one can run code" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("pipe:cat train-000.tar", "would run a shell command, and data never do here"),
        ("train-{000..003.tar", "has a brace without its partner"),
        ("absent-{0..2}.tar", "3 of 3 names lead to no file"),
        ("absent-*.tar", "1 of 1 name leads to no file"),
        ("train-{0..999999}.tar", "stands for more than 100,000 files"),
        ("x{0..99999}{0..99999}.tar", "stands for more than 100,000 files"),
        ("x{0..99999999999999999}.tar", "stands for more than 100,000 files"),
        ("x{a,b}" * 40 + ".tar", "stands for more than 100,000 files"),
    ],
)
def test_what_is_typed_wrongly_is_refused(typed, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(typed)


def test_an_absent_shard_of_many_is_an_error(shards):
    message = refusal(f"{shards}/train-{{000..004}}.tar")
    assert f"1 of 5 names lead to no file ({shards}/train-004.tar)" in message


def test_braces_are_the_shells():
    assert expand_braces("a") == ["a"]
    assert expand_braces("a{08..11}b") == ["a08b", "a09b", "a10b", "a11b"]
    assert expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{x,y}-{0..1}") == ["x-0", "x-1", "y-0", "y-1"]


def test_headers_are_read_once(shards, monkeypatch):
    first = open_source(shards)
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("read again"))
    again = open_source(shards)
    assert again.paths == first.paths
    assert np.array_equal(again.labels, first.labels)
    monkeypatch.undo()
    monkeypatch.setenv("ISOSPHERE_CACHE", str(shards / "train-000.tar"))  # where nothing can be kept
    assert open_source(shards).paths == first.paths


def test_a_changed_shard_is_indexed_anew(shards):
    open_source(shards)
    write_tar(shards / "train-003.tar", {"z.png": body(99)})
    assert open_source(shards).paths[-1] == "train-003.tar/z.png"


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_workers_and_resumption_see_one_order(shards, workers):
    source = open_source(shards)
    memory = load_images(source, 12)
    whole = list(Loader(memory, batch_size=6, seed=3).epoch(2))
    for rank in range(2):
        loader = Loader(source, size=12, batch_size=6, seed=3, rank=rank, world=2, workers=workers)
        for start in (0, 2):
            for batch, expected in zip(loader.epoch(2, start=start), whole[start:], strict=True):
                assert torch.equal(batch.index, expected.index[rank::2])
                assert torch.equal(batch.images, expected.images[rank::2])


def test_a_bad_image_in_a_shard_is_replaced_and_named(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.png": body(0), "1.png": b"no", "2.png": b"", "3.png": body(3)})
    loader = Loader(open_source(tmp_path / "a.tar"), size=12, batch_size=4, workers=0)
    batch = next(loader.epoch(0))
    assert sorted(batch.index.tolist()) == [0, 3, 3, 3]
    assert loader.skipped == {
        "a.tar/1.png": "not an image in a format that is read here, or damaged at its start",
        "a.tar/2.png": "the file is empty",
    }


def test_json_index_is_not_trusted_blindly(shards, tmp_path):
    first = open_source(shards)
    for kept in (tmp_path / "cache" / "shards").iterdir():
        kept.write_text(json.dumps({"members": 3, "other": 1}))
    assert open_source(shards).paths == first.paths


def test_names_that_lead_out_and_foreign_formats_are_named(tmp_path):
    write_tar(
        tmp_path / "a.tar", {"../0.png": body(0), "/1.png": body(1), "2.jxl": b"x", "a..b/3.png": body(3)}
    )
    source = open_source(tmp_path / "a.tar")
    assert source.paths == ["a.tar/a..b/3.png"]
    assert dict(source.unreadable) == {
        "a.tar/../0.png": "its name leads out of the archive",
        "a.tar//1.png": "its name leads out of the archive",
        "a.tar/2.jxl": ".jxl is not read here: convert it to .png or .jpg",
    }


def test_dots_in_names_make_no_sample_of_them(tmp_path):
    """As the convention has it, all that agrees up to the first dot is one; scans of a day are not."""
    scans = {f"scan_2023.01.{n:02d}.png": body(n) for n in range(5)}
    write_tar(tmp_path / "a.tar", scans | {"scan_2023.01.03.cls": b"7", "scan_2023.json": b'{"label": 2}'})
    source = open_source(tmp_path / "a.tar")
    assert source.paths == [f"a.tar/{name}" for name in scans]
    assert [source.class_names[k] for k in source.labels] == ["2", "2", "2", "7", "2"]
    assert source.left_out == []
    masks = {"0.png": body(0), "0.seg.png": body(1), "1.png": body(2), "1.v2.png": body(3)}
    write_tar(tmp_path / "b.tar", masks)
    source = open_source(tmp_path / "b.tar")
    assert source.paths == ["b.tar/0.png", "b.tar/1.png"]
    assert source.left_out == [("b.tar", "2 further images of samples with several")]


def test_names_without_an_ending_and_of_other_systems(tmp_path):
    members = {
        "scan.001": body(0),
        "scan.002": body(1),
        "./c/IMG": body(2),
        "d\\x.png": body(3),
        "README": b"text",
    }
    write_tar(tmp_path / "a.tar", members)
    assert open_source(tmp_path / "a.tar").paths == [
        f"a.tar/{name}" for name in ("scan.001", "scan.002", "c/IMG", "d/x.png")
    ]


def test_links_within_a_shard_are_followed(tmp_path):
    write_tar(tmp_path / "a.tar", {"all/0.png": body(0), "all/1.png": body(1)})
    links = {
        "a/hard.png": (tarfile.LNKTYPE, "all/0.png"),
        "b/far.png": (tarfile.SYMTYPE, "near.png"),  # by way of a later one
        "b/near.png": (tarfile.SYMTYPE, "../all/1.png"),
        "b/gone.png": (tarfile.SYMTYPE, "../../else/1.png"),
        "b/text": (tarfile.SYMTYPE, "../README"),
        "more": (tarfile.SYMTYPE, "all"),
    }
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, (kind, target) in links.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            archive.addfile(header)
    source = open_source(tmp_path / "a.tar")
    read = {path: source.read(i) for i, path in enumerate(source.paths)}
    assert set(read) == {f"a.tar/{name}" for name in ("all/0.png", "all/1.png", *list(links)[:3])}
    for link, image in (("a/hard", 0), ("b/far", 1), ("b/near", 1)):
        assert torch.equal(read[f"a.tar/{link}.png"], read[f"a.tar/all/{image}.png"])
    assert source.unreadable == [("a.tar/b/gone.png", "a link to what is no image of the archive")]
    assert source.left_out == [("a.tar", "1 link to folders, not followed")]
    assert len(first_of_each(source)) == 2


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for typed in (tmp_path, tmp_path / name, f"{tmp_path}/?{name[1:]}", f"{tmp_path}/{{a,b}}{name[1:]}"):
        with pytest.raises((UsageError, RunError)):
            open_source(str(typed))
