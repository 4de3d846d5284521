"""Files that deploy reads, damaged at random: made anew where they can be, an error in words where they cannot."""

import shutil
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import isosphere
from isosphere.data import open_source
from isosphere.deploy import Embeddings, embed_to_file, open_index, read_embeddings, write_embeddings
from isosphere.deploy import _embed as embedding
from isosphere.errors import IsosphereError, RunError

ROUNDS = 40


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """The content with a few bytes flipped, cut out, doubled or written over, each time otherwise."""
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
            kind = rng.integers(4)
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del data[at : at + length]
            elif kind == 2:
                data[at:at] = data[at : at + length]
            else:
                data[at : at + length] = rng.bytes(length)
            if not data:
                break
        yield bytes(data)


@pytest.mark.parametrize("ending", ["npz", "parquet", "csv", "pt"])
def test_embeddings(tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    file = tmp_path / f"e.{ending}"
    write_embeddings(
        file, Embeddings(np.eye(6, 4, dtype=np.float32), np.arange(6) - 1, list("abcdef"), list("vwxyz"))
    )
    refused = 0
    for content in damaged(file.read_bytes(), seed=1):
        file.write_bytes(content)
        try:
            found = read_embeddings(file)
        except IsosphereError:
            refused += 1
        else:
            assert found.values.shape[0] == len(found.labels) == len(found.paths)
    assert refused > ROUNDS // 4


@pytest.fixture
def own(trained, tmp_path) -> isosphere.Run:
    """A run of one's own, with a cache, so that an index is kept."""
    return isosphere.load(shutil.copytree(trained, tmp_path / "run"), device="cpu")


def test_an_index(own, pictures):
    folder = pictures([f"{i}.png" for i in range(5)])
    whole = open_index(own, folder)
    file = whole.saved
    assert file is not None
    sound = file.read_bytes()
    for content in damaged(sound, seed=2):
        file.write_bytes(content)
        found = open_index(own, folder)
        assert (found.paths, len(found)) == (whole.paths, 5)
    file.write_bytes(sound)
    assert open_index(own, folder).added == 0
    with np.load(file) as arrays:
        kept = dict(arrays)
    wrong = {
        "embeddings": [kept["embeddings"][:2], kept["embeddings"] * np.nan, kept["embeddings"][0], np.eye(5)],
        "place": [kept["place"] + 9, kept["place"][:3], kept["place"].astype(float), kept["place"][:, None]],
        "stamps": [kept["stamps"][:, :1], kept["stamps"].astype(str)],
        "paths": [kept["paths"] + 200, kept["paths"][:0]],
        "path_ends": [
            kept["path_ends"][::-1],
            kept["path_ends"] * 10**12,
            kept["path_ends"][:2],
            np.float64(1),
        ],
        "reason_ends": [kept["reason_ends"][:1]],
        "identity": [np.array(["a", "b"])],
    }
    for name, values in wrong.items():
        for value in values:
            np.savez(file, **{**kept, name: value})
            found = open_index(own, folder)
            assert found.paths == whole.paths, name
            assert torch.allclose(found.unit, whole.unit, atol=1e-5), name


def test_blocks_of_an_embedding(own, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "block_length", lambda *_: 2)
    source, out = open_source(str(pictures([f"{i}.png" for i in range(5)]))), tmp_path / "e.npz"

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_file(own, source, out, progress=stop)
    kept = shutil.copytree(tmp_path / ".e.npz.parts", tmp_path / "kept")
    whole = own.embed(source)
    for name in ("000000.npz", "000001.json", "state.json"):
        for content in list(damaged((kept / name).read_bytes(), seed=3))[:15]:
            shutil.copytree(kept, tmp_path / ".e.npz.parts", dirs_exist_ok=True)
            (tmp_path / ".e.npz.parts" / name).write_bytes(content)
            embed_to_file(own, source, out, overwrite=True)
            found = read_embeddings(out)
            assert found.paths == list(source.paths)
            assert np.allclose(found.values, whole, atol=1e-5)


def test_the_metric_of_a_run(own):
    file = own.folder.wccn
    wrong = [
        {"mean": torch.zeros(256)},
        {"mean": torch.zeros(12), "basis": torch.eye(12)},
        {"mean": torch.zeros(256), "basis": torch.zeros(256)},
        {"mean": torch.zeros(256, dtype=torch.int64), "basis": torch.zeros(256, 0)},
        {"other": torch.zeros(3)},
    ]
    for tensors in wrong:
        save_file(tensors, file)
        with pytest.raises(
            RunError, match=r"wccn\.safetensors is none of an encoder of 256 features: remove it"
        ):
            isosphere.load(own.folder.path)
    save_file({"mean": torch.zeros(256), "basis": torch.eye(256)}, file)
    for content in damaged(file.read_bytes(), seed=4):
        file.write_bytes(content)
        with suppress(IsosphereError):
            isosphere.load(own.folder.path)
