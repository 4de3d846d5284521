"""Embeddings in files: plain arrays, complete or absent, the same however many blocks they were made in."""

import csv
import resource
import shutil
import signal

import numpy as np
import pytest
import torch

from isosphere.data import open_source
from isosphere.deploy import Embeddings, embed_source, embed_to_file, read_embeddings, write_embeddings
from isosphere.deploy import _embed as embedding
from isosphere.errors import RunError, UsageError

from .conftest import picture


@pytest.fixture
def folder(pictures):
    return pictures([f"{'ab'[i % 2]}/{i:02d}é.png" for i in range(11)])


def small_blocks(monkeypatch, length=4):
    monkeypatch.setattr(embedding, "block_length", lambda *_: length)


def sample(n=5):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3)).astype(np.float32)
    return Embeddings(values, np.arange(n) % 3 - 1, [f"p{'x' * i}ü.png" for i in range(n)], ["a", "b"])


def assert_same(a, b):
    assert np.array_equal(a.values, b.values)
    assert np.array_equal(a.labels, b.labels)
    assert (a.paths, a.class_names) == (b.paths, b.class_names)


def test_an_npz_holds_plain_arrays(run, folder, tmp_path):
    summary = embed_to_file(run, open_source(str(folder)), tmp_path / "out" / "e.npz")
    with np.load(tmp_path / "out" / "e.npz", allow_pickle=False) as arrays:
        assert (arrays["embeddings"].dtype, arrays["embeddings"].shape) == (np.float32, (11, 256))
        assert (arrays["labels"].dtype, arrays["labels"].tolist()) == (np.int64, [0] * 6 + [1] * 5)
        assert arrays["paths"].dtype.kind == "U"
        assert arrays["paths"][0] == "a/00é.png"
        assert arrays["class_names"].tolist() == ["a", "b"]
        assert np.array_equal(arrays["embeddings"], run.embed(str(folder)))
    assert (summary.count, summary.dim, summary.skipped) == (11, 256, [])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["e.npz"]


def test_blocks_change_nothing(run, folder, tmp_path, monkeypatch, ending):
    (folder / "b" / "03é.png").write_bytes(b"broken")
    source = open_source(str(folder))
    whole = embed_source(run, source, layer="head")
    seen = []
    small_blocks(monkeypatch)
    parts = embed_source(run, source, layer="head", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (8, 11), (11, 11)]
    summary = embed_to_file(run, source, tmp_path / f"e.{ending}", layer="head")
    assert [path for path, _ in summary.skipped] == ["b/03é.png"]
    assert summary.count == 10
    stored = read_embeddings(tmp_path / f"e.{ending}")
    for other in (parts, stored):
        # Blocks are batches of other sizes, and a product of another size is summed in another order.
        assert np.allclose(other.values, whole.values, atol=1e-5)
        assert np.array_equal(other.labels, whole.labels)
        assert other.paths == whole.paths
    assert_same(parts, stored)
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_embedding_goes_on_where_it_stopped(run, folder, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    source = open_source(str(folder))
    done = []

    def stop(count, total):
        done.append(count)
        if count == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_file(run, source, tmp_path / "e.npz", progress=stop)
    assert not (tmp_path / "e.npz").exists()
    embed_to_file(run, source, tmp_path / "e.npz", progress=lambda count, total: done.append(count))
    assert done == [4, 8, 11]
    assert_same(read_embeddings(tmp_path / "e.npz"), embed_source(run, source))
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(run, source, tmp_path / "f.npz", progress=stop)
    done.clear()
    embed_to_file(run, source, tmp_path / "f.npz", layer="head", progress=lambda c, t: done.append(c))
    assert done == [4, 8, 11]  # the parts were those of another layer
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(run, source, tmp_path / "g.npz", progress=stop)
    other = source.with_class_names(list(reversed(source.class_names)))
    embed_to_file(run, other, tmp_path / "g.npz")  # the parts had other labels
    assert_same(read_embeddings(tmp_path / "g.npz"), embed_source(run, other))
    assert_same(read_embeddings(tmp_path / "f.npz"), embed_source(run, source, layer="head"))


def test_blocks_of_other_images_are_not_gone_on_with(run, folder, tmp_path, monkeypatch):
    """Neither those of the same names elsewhere, nor those before an image was replaced."""
    small_blocks(monkeypatch)
    (tmp_path / "B").mkdir()
    other = shutil.copytree(folder, tmp_path / "B" / folder.name)
    first = sorted(folder.rglob("*.png"))[0]
    for again in (other, folder):
        with pytest.raises(KeyboardInterrupt):
            embed_to_file(run, open_source(folder), tmp_path / "e.npz", overwrite=True, progress=_stop)
        picture(99).save(first)
        done: list[int] = []
        source = open_source(again)
        embed_to_file(
            run,
            source,
            tmp_path / "e.npz",
            overwrite=True,
            progress=lambda count, _, done=done: done.append(count),
        )
        assert done == [4, 8, 11]
        assert_same(read_embeddings(tmp_path / "e.npz"), embed_source(run, source))


def _stop(count, total):
    raise KeyboardInterrupt


def _stop_at_8(count, total):
    if count == 8:
        raise KeyboardInterrupt


@pytest.fixture(params=["npz", "parquet", "csv", "pt"])
def ending(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return request.param


def test_what_is_written_comes_back(tmp_path, ending):
    odd = Embeddings(
        sample().values * 1e-30, sample().labels, ['a,"b"\n', "=1+1", "", " x ", "猫"], ["two\nlines", "b"]
    )
    for each in (sample(), odd):
        write_embeddings(tmp_path / f"e.{ending}", each)
        assert_same(read_embeddings(tmp_path / f"e.{ending}"), each)
    assert [p.name for p in tmp_path.iterdir()] == [f"e.{ending}"]


def test_a_name_that_is_no_utf_8_is_read_back(tmp_path, ending):
    each = Embeddings(np.ones((1, 2), np.float32), np.array([0]), ["half\udcff.png"], ["latin\udce9"])
    write_embeddings(file := tmp_path / f"e.{ending}", each)
    assert_same(read_embeddings(file), each)
    if ending == "csv":
        assert r"half\udcff.png,0,latin\udce9," in file.read_text()


def test_tables_and_tensors_are_what_others_read(tmp_path):
    write_embeddings(tmp_path / "e.csv", sample())
    with (tmp_path / "e.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == sample().paths
    assert [row["class"] for row in rows] == ["", "a", "b", "", "a"]
    numbers = np.array([[row["e0"], row["e1"], row["e2"]] for row in rows], np.float32)
    assert np.array_equal(numbers, sample().values)
    write_embeddings(tmp_path / "e.pt", sample())
    found = torch.load(tmp_path / "e.pt", weights_only=True)
    assert torch.equal(found["embeddings"], torch.from_numpy(sample().values))
    assert found["labels"].tolist() == sample().labels.tolist()


def test_parquet_of_before_is_still_read(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4, np.float32)), 2)
    table = pa.table({"path": ["a", "b"], "label": [0, 1], "embedding": vectors})
    pq.write_table(table.replace_schema_metadata({"class_names": "cats\ndogs"}), tmp_path / "e.parquet")
    assert read_embeddings(tmp_path / "e.parquet").class_names == ["cats", "dogs"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other arrays", "rows missing", "words"])
def test_a_damaged_block_is_made_again(run, folder, tmp_path, monkeypatch, damage):
    small_blocks(monkeypatch)
    source, out = open_source(str(folder)), tmp_path / "e.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(run, source, out, progress=_stop_at_8)
    part = tmp_path / ".e.npz.parts" / "000000.npz"
    whole = part.read_bytes()
    if damage == "other arrays":
        np.savez(part, embeddings=np.ones(4), labels=np.zeros(3), paths=["a"])
    elif damage == "rows missing":
        write_embeddings(part, sample(3))
    elif damage == "words":
        part.with_suffix(".json").write_text('{"a": 1}')
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        part.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b""}[damage])
    done: list[int] = []
    embed_to_file(run, source, out, progress=lambda count, _: done.append(count))
    assert done == [4, 11]
    assert_same(read_embeddings(out), embed_source(run, source))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.npz", "pictures"]


def test_one_at_a_time_writes_a_file(run, folder, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    source, out, said = open_source(str(folder)), tmp_path / "e.npz", []

    def again(done, total):
        with pytest.raises(
            RunError, match=r"e\.npz is being written by process .*: wait for its end, or .*out"
        ) as e:
            embed_to_file(run, source, out)
        said.append(e)

    embed_to_file(run, source, out, progress=again)
    assert len(said) == 3
    assert_same(read_embeddings(out), embed_source(run, source))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.npz", "pictures"]


def test_a_disk_that_fills_leaves_nothing_half_written(tmp_path, ending):
    values = (
        np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
    )  # 128 kB that no codec makes fewer
    whole = Embeddings(values, np.zeros(4000, np.int64), ["p"] * 4000, ["a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (1 << 10, 128_500):  # as rows are written, and as the end of the file is
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            with pytest.raises(RunError, match=r"cannot write .*File too large.*unchanged"):
                write_embeddings(tmp_path / f"e.{ending}", whole)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_refusals(run, folder, tmp_path):
    source = open_source(str(folder))
    with pytest.raises(UsageError, match=r"ends in \.npz, \.parquet, \.csv or \.pt"):
        embed_to_file(run, source, tmp_path / "e.txt")
    (tmp_path / "e.npz").write_bytes(b"mine")
    with pytest.raises(UsageError, match="overwrite=True"):
        embed_to_file(run, source, tmp_path / "e.npz")
    with pytest.raises(RunError, match="damaged"):
        read_embeddings(tmp_path / "e.npz")
    embed_to_file(run, source, tmp_path / "e.npz", overwrite=True)
    assert len(read_embeddings(tmp_path / "e.npz")) == 11
    with pytest.raises(UsageError, match="no file"):
        read_embeddings(tmp_path / "absent.npz")


def test_nothing_readable_is_said_once(run, tmp_path, monkeypatch):
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    source = open_source(str(tmp_path))
    for length in (10, 4):
        small_blocks(monkeypatch, length)
        with pytest.raises(RunError, match="None of the 6 images"):
            embed_to_file(run, source, tmp_path / "out" / f"{length}.npz")
        assert not (tmp_path / "out" / f"{length}.npz").exists()


def test_pickles_are_not_loaded(tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=np.array([{}], dtype=object), labels=[0], paths=["a"])
    with pytest.raises(RunError, match="damaged"):
        read_embeddings(tmp_path / "e.npz")


def test_only_what_was_kept_by_us_is_removed(run, folder, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    source, parts = open_source(str(folder)), tmp_path / ".e.npz.parts"
    parts.mkdir()
    for name in ("thesis.npz", "000007.npz"):
        (parts / name).write_bytes(b"precious")
    embed_to_file(run, source, tmp_path / "e.npz")
    assert [p.name for p in parts.iterdir()] == ["thesis.npz"]
    (tmp_path / ".f.npz.parts").symlink_to(parts)
    with pytest.raises(UsageError, match=r"f\.npz\.parts, .* is a link"):
        embed_to_file(run, source, tmp_path / "f.npz")
    assert [p.name for p in parts.iterdir()] == ["thesis.npz"]
