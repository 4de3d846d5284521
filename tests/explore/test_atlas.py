"""The file for Embedding Atlas: the columns that its options name, and what isosphere reads back of it."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from isosphere.deploy import read_embeddings
from isosphere.errors import RunError, UsageError
from isosphere.explore import _atlas as atlas
from isosphere.explore import check_atlas, write_atlas
from tests.explore.pages import collection, page, pictures


@pytest.fixture
def table(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(atlas, "_ROWS", 25)  # several row groups
    made = collection(60)
    made.source.labels[5] = -1
    made.source.paths[3] = "caf\udce9.png"
    write_atlas(page(made, tmp_path), tmp_path / "x.parquet")
    return made, pq.read_table(tmp_path / "x.parquet"), tmp_path / "x.parquet"


def test_its_columns(table):
    made, found, _ = table
    names = [
        "path",
        "label",
        "class",
        "x",
        "y",
        "cluster",
        "ood",
        "agreement",
        "neighbors",
        "image",
        "embedding",
    ]
    assert found.column_names == names
    rows = found.to_pylist()
    assert len(rows) == 60
    for row in (0, 5, 31, 59):
        near = made.neighbours(row)
        assert rows[row]["neighbors"]["ids"] == near.rows
        np.testing.assert_allclose(rows[row]["neighbors"]["distances"], 1 - np.array(near.cosines), atol=2e-5)
        shown = Image.open(io.BytesIO(rows[row]["image"]["bytes"]))
        assert np.array_equal(np.asarray(shown), pictures(60)[row])
    assert rows[5]["class"] is None
    assert rows[6]["class"] == made.source.class_names[made.source.labels[6]]
    json.dumps(rows[3]["path"]).encode()


def test_it_is_a_file_of_embeddings_too(table):
    made, _, file = table
    back = read_embeddings(file)
    assert np.array_equal(back.values, made.unit().numpy())
    assert back.paths == made.source.paths
    assert back.class_names == made.source.class_names
    assert np.array_equal(back.labels, made.source.labels)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"x\.parquet"):
        check_atlas(tmp_path / "x.csv")


def test_a_failure_leaves_the_file_of_before(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    made = page(collection(60), tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"before")

    def fails(row):
        raise OSError("no more")

    monkeypatch.setattr(made.pictures, "thumbnail", fails)
    with pytest.raises(RunError, match="no more"):
        write_atlas(made, tmp_path / "x.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
    assert (tmp_path / "x.parquet").read_bytes() == b"before"
