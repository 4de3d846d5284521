"""Embeddings in files: plain arrays, complete or absent, the same however many blocks they were made in."""

import shutil

import numpy as np
import pytest

from isosphere.data import open_source
from isosphere.deploy import Embeddings, embed_source, embed_to_file, read_embeddings, write_embeddings
from isosphere.deploy import _embed as embedding
from isosphere.errors import RunError, UsageError

from .conftest import picture


@pytest.fixture
def folder(pictures):
    return pictures([f"{'ab'[i % 2]}/{i:02d}é.png" for i in range(11)])


def small_blocks(monkeypatch, length=4):
    monkeypatch.setattr(embedding, "block_length", lambda canvas: length)


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


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_blocks_change_nothing(run, folder, tmp_path, monkeypatch, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
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


def test_what_is_written_comes_back(tmp_path):
    write_embeddings(tmp_path / "e.npz", sample())
    assert_same(read_embeddings(tmp_path / "e.npz"), sample())
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_embeddings(tmp_path / "e.parquet", sample())
    assert_same(read_embeddings(tmp_path / "e.parquet"), sample())


def test_refusals(run, folder, tmp_path):
    source = open_source(str(folder))
    with pytest.raises(UsageError, match=r"ends in \.npz or \.parquet"):
        embed_to_file(run, source, tmp_path / "e.csv")
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
