"""Embeddings in Parquet files: tied to the weights that made them, searched exactly or, of very many, approximately."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import isosphere
from isosphere.cli import main
from isosphere.data import open_source
from isosphere.deploy import (
    Embeddings,
    embed_to_file,
    holds_vectors,
    open_vector_index,
    read_embeddings,
    write_embeddings,
)
from isosphere.deploy._embed import made_by
from isosphere.deploy._kinds import PROVENANCE
from isosphere.errors import RunError, UsageError
from isosphere.reductions import find_faiss

pytest.importorskip("pyarrow")
needs_faiss = pytest.mark.skipif(find_faiss() is None, reason="faiss is not installed")


@pytest.fixture
def own(trained, tmp_path):
    """A copy of the run whose folder this test may fill."""
    shutil.copytree(trained, tmp_path / "own")
    return isosphere.load(tmp_path / "own", device="cpu")


@pytest.fixture
def parts(own, pictures, tmp_path):
    """Twelve pictures, embedded into three parts."""
    folder = pictures([f"{k}/{i}.png" for k in ("red", "blue", "green") for i in range(4)])
    for k in ("red", "blue", "green"):
        embed_to_file(own, open_source(f"{folder}/{k}"), tmp_path / "parts" / f"{k}.parquet")
    return tmp_path / "parts"


def far(run, folder, n, dim=16, clusters=40, **changes):
    """Clustered rows that no encoder made, said to be this run's."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, dim))
    values = centres[rng.integers(0, clusters, n)] + 0.4 * rng.normal(size=(n, dim))
    made = replace(made_by(run, "backbone"), **changes)
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(n), 3)):
        block = Embeddings(
            values[rows].astype(np.float32),
            np.full(len(rows), -1),
            [f"{i}.png" for i in rows],
            provenance=made,
        )
        write_embeddings(folder / f"{number}.parquet", block)
    return values.astype(np.float32)


def nearest(values, queries, k):
    """By brute force in float64."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True).astype(np.float64)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True).astype(np.float64)
    cosines = asked @ unit.T
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k], cosines


@pytest.mark.parametrize("engine", ["blocked", pytest.param("faiss", marks=needs_faiss)])
def test_what_was_embedded_is_found(own, parts, pictures, engine):
    """The same rows, cosines, classes and paths as by comparing all that the files hold."""
    assert holds_vectors(parts)
    assert not holds_vectors(parts.parent / "pictures")
    index = open_vector_index(own, parts, engine=engine)
    files = [read_embeddings(parts / f"{k}.parquet") for k in ("blue", "green", "red")]
    values, names = np.concatenate([f.values for f in files]), [path for f in files for path in f.paths]
    rows, cosines = nearest(values, values[:5], 4)
    for query, found in enumerate(index.search(values[:5], 4)):
        assert [match.row for match in found] == rows[query].tolist()
        assert [match.path for match in found] == [names[row] for row in rows[query]]
        assert [match.similarity for match in found] == pytest.approx(cosines[query, rows[query]], abs=1e-6)
    assert index.recall == 1.0
    assert index.layer == "backbone"
    with pytest.raises(ValueError, match="dimensions"):
        index.search(np.ones((1, 3)))
    picture = parts.parent / "pictures" / "red" / "2.png"
    assert own.search(picture, parts, k=1)[0][0].path.endswith("2.png")


@needs_faiss
def test_the_index_is_kept_and_is_a_file_of_faiss(own, parts):
    faiss = find_faiss()
    first = open_vector_index(own, parts)
    assert first.built
    assert faiss.read_index(str(first.saved)).ntotal == 12
    again = open_vector_index(own, parts)
    assert not again.built
    shutil.copy(parts / "red.parquet", parts / "zoo.parquet")
    grown = open_vector_index(own, parts)
    assert grown.built
    assert len(grown) == 16
    double = grown.search(read_embeddings(parts / "red.parquet").values[:1], 2)[0]
    assert [match.row for match in double] == [8, 12]  # of equals the earlier
    grown.saved.write_bytes(grown.saved.read_bytes()[:-9])  # cut short: made again
    assert open_vector_index(own, parts).built
    assert open_vector_index(replace(own, cache=None), parts).saved is None


@needs_faiss
def test_an_approximate_index_states_its_recall(own, tmp_path):
    """Recall as brute force measures it; what is found has exact cosines; the file keeps how many cells are read."""
    values = far(own, tmp_path / "many", 12_000)
    index = open_vector_index(own, tmp_path / "many", ivf_from=10_000)
    assert index.kind == "IVF438,PQ4"
    assert 0.95 <= index.recall <= 1.0
    queries = np.random.default_rng(3).choice(len(values), 200, replace=False)
    rows, cosines = nearest(values, values[queries], 10)
    found = index.search(values[queries], 10)
    hits = [
        len({match.row for match in each} & set(true))
        for each, true in zip(found, rows.tolist(), strict=True)
    ]
    assert np.mean(hits) / 10 == pytest.approx(index.recall, abs=0.05)
    for query, each in enumerate(found):
        assert [match.similarity for match in each] == pytest.approx(
            [cosines[query, match.row] for match in each], abs=1e-6
        )
    again = open_vector_index(own, tmp_path / "many", ivf_from=10_000)
    assert (again.built, again.recall, again.kind) == (False, index.recall, index.kind)
    assert again.search(values[:3], 5) == index.search(values[:3], 5)
    assert find_faiss().read_index(str(again.saved)).nprobe == index.index.nprobe


def test_embeddings_of_other_weights_are_refused(own, parts):
    with torch.no_grad():
        next(own.encoder.parameters()).add_(1e-3)
    with pytest.raises(UsageError, match="made by other weights"):
        open_vector_index(replace(own), parts, engine="blocked")  # whose digest has not been taken yet


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "head"}, "cannot be searched together"),
        ({"weights": "0" * 32}, "cannot be searched together"),
    ],
)
def test_parts_of_several_encoders_are_refused(own, tmp_path, changes, said):
    far(own, tmp_path / "some", 30)
    shutil.move(tmp_path / "some" / "0.parquet", tmp_path / "kept")
    far(own, tmp_path / "some", 30, **changes)
    shutil.move(tmp_path / "kept", tmp_path / "some" / "0.parquet")
    with pytest.raises(UsageError, match=said):
        open_vector_index(own, tmp_path / "some", engine="blocked")


def test_what_does_not_fit_is_refused(own, parts, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="of the layer backbone"):
        open_vector_index(own, parts, layer="head", engine="blocked")
    far(
        own, tmp_path / "squeezed", 9, pixels=made_by(own, "backbone").pixels.replace('"size": ', '"size": 1')
    )
    with pytest.raises(UsageError, match="another preprocessing"):
        open_vector_index(own, tmp_path / "squeezed", engine="blocked")
    found = replace(read_embeddings(parts / "red.parquet"), provenance=None)
    write_embeddings(tmp_path / "earlier.parquet", found)
    with pytest.raises(UsageError, match="does not say which weights"):
        open_vector_index(own, tmp_path / "earlier.parquet", engine="blocked")
    (parts / "zzz.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match=r"zzz.parquet is damaged"):
        open_vector_index(own, parts, engine="blocked")
    (parts / "zzz.parquet").unlink()
    monkeypatch.setattr("isosphere.deploy._vector_index.find_faiss", lambda: None)
    assert open_vector_index(own, parts).kind == ""  # so few are compared without it
    with pytest.raises(UsageError, match=r"12 images are searched by FAISS.*pip install faiss-cpu"):
        open_vector_index(own, parts, ivf_from=12)


def test_the_command_searches_parts(own, parts, capsys):
    run, picture = str(own.folder.path), str(parts.parent / "pictures" / "red" / "1.png")
    assert main(["search", run, picture, "--in", str(parts), "-k", "2", "--csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert "1.png" in rows[1]
    assert float(rows[1].split(",")[3]) == pytest.approx(1.0, abs=1e-5)
    assert main(["search", run, picture, "--in", str(parts)]) == 0
    assert "among 12 images (" in capsys.readouterr().out
    assert main(["search", run, picture, "--in", str(parts), "--out", "a.html"]) == 2
    assert "no pictures to draw" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("said", [b"", b"\xff", b"[1]", b"[" * 100_000, b'{"weights": 1}'])
def test_a_damaged_provenance_is_named(own, parts, said):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(parts / "red.parquet")
    damaged = table.replace_schema_metadata({**table.schema.metadata, PROVENANCE: said})
    parquet.write_table(damaged, parts / "red.parquet")
    with pytest.raises(RunError, match=r"red.parquet is damaged: what made its embeddings cannot be read"):
        open_vector_index(own, parts, engine="blocked")


@pytest.mark.parametrize("engine", ["blocked", pytest.param("faiss", marks=needs_faiss)])
def test_a_changed_byte_is_noticed(engine, own, parts, tmp_path):
    file = parts / "green.parquet"
    content = bytearray(file.read_bytes())
    vectors = read_embeddings(file).values
    place = bytes(content).find(np.float32(vectors[2, 3]).tobytes())
    assert place > 0
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"green\.parquet is damaged"):
        open_vector_index(own, parts, engine=engine).search(torch.from_numpy(vectors[:1]), 3)
    with pytest.raises(RunError, match=r"green\.parquet"):
        read_embeddings(file)


def test_a_folder_in_which_parts_are_missing_is_refused(own, parts):
    notes = parts / "_parts"
    notes.mkdir()
    for number, name in enumerate(("red", "blue", "green")):
        (parts / f"{name}.parquet").rename(parts / f"part-{number:06d}.parquet")
        (notes / f"{number:06d}.json").write_text('{"rows": 4}')
    (notes / "000003.json").write_text('{"rows": 0}')
    (notes / "parts.json").write_text('{"parts": 4}')
    assert len(open_vector_index(own, parts, engine="blocked")) == 12
    (parts / "part-000001.parquet").rename(parts / ".away")
    with pytest.raises(RunError, match="is not whole: 1 of 4 parts are missing"):
        open_vector_index(own, parts, engine="blocked")
    (parts / ".away").rename(parts / "part-000001.parquet")
    (notes / "000002.json").unlink()
    with pytest.raises(RunError, match="1 of 4"):
        open_vector_index(own, parts, engine="blocked")


def test_provenance_is_read_back(own, parts):
    found = read_embeddings(parts / "red.parquet")
    assert found.provenance == made_by(own, "backbone")
