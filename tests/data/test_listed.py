"""Files that are listed one by one, several sources as one, and tables of encoded images."""

import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from isosphere.data import as_name, as_source, load_images, located, open_source, set_aside, stamps

from .conftest import picture, refusal


def test_a_pattern_stands_for_images_and_for_those_in_folders(make_folder, tmp_path, monkeypatch):
    folder = make_folder(["cat/1.png", "cat/2.jpg", "dog/1.png", "dog/note.txt", "eel/1.png"])
    monkeypatch.chdir(tmp_path)
    found = open_source("pictures/*/1.png")
    assert found.paths == ["cat/1.png", "dog/1.png", "eel/1.png"]
    assert found.class_names == ["cat", "dog", "eel"]
    assert open_source("pictures/{cat,dog}").paths == ["cat/1.png", "cat/2.jpg", "dog/1.png"]
    assert open_source(f"{folder}/**/*.jpg").paths == ["2.jpg"]
    assert torch.equal(found.read(2), open_source(folder).read(3))
    assert located("pictures/*/1.png") == found.location == f"{folder.resolve()}/*/1.png"
    assert "pictures/*.gif matches no image in" in refusal("pictures/*.gif")
    assert open_source("pictures/cat/1.png").paths == ["1.png"]


def test_lists_of_files_with_labels_and_without(make_folder, tmp_path, monkeypatch):
    folder = make_folder(["cat/1.png", "a dog/2.png", "eel/3.png"])
    names = ["cat/1.png", "a dog/2.png", "eel/3.png"]
    lists = {
        "plain.txt": "# mine\n" + "\n".join(names),
        "absolute.lst": "\n".join(str(folder / name) for name in names),
        "numbers.txt": "".join(f"{name} {k}\n" for k, name in enumerate(names)),
        "table.csv": "id,Label,path\n" + "".join(f"{k},{'xyz'[k]},{name}\n" for k, name in enumerate(names)),
        "bare.csv": "".join(f'"{name}",{k}\n' for k, name in enumerate(names)),
        "tabs.tsv": "filename\tclass\n" + "".join(f"{name}\t{k}\n" for k, name in enumerate(names)),
        "semicolons.csv": "file;other\n" + "".join(f"{name};7\n" for name in names),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(tmp_path)  # the paths are seen from the list
    classes = {}
    for name in lists:
        source = open_source(folder / name)
        assert [load_images(source, 8).images[i].sum() for i in range(3)] == [
            load_images(open_source(folder / each), 8).images[0].sum() for each in names
        ]
        classes[name] = [source.class_names[k] for k in source.labels]
    folders = ["cat", "a dog", "eel"]
    assert classes == {
        **dict.fromkeys(("plain.txt", "absolute.lst", "semicolons.csv"), folders),
        **{name: ["0", "1", "2"] for name in ("numbers.txt", "bare.csv", "tabs.tsv")},
        "table.csv": ["x", "y", "z"],
    }


def test_lists_that_list_no_images(make_folder):
    folder = make_folder(["a.png"])
    (folder / "l.txt").write_text("gone.png\nb.png\n")
    assert "l.txt lists 2 files, of which none is there, first gone.png" in refusal(folder / "l.txt")
    (folder / "l.csv").write_text("x,y\n1,2\n")
    assert "has the columns x, y; expected one called path" in refusal(folder / "l.csv")
    (folder / "l.csv").write_text("")
    assert "has the columns of an empty file" in refusal(folder / "l.csv")
    (folder / "l.txt").write_bytes(b"\xff\xfe\0")
    assert "cannot be read as a list of images (it is not text in UTF-8; it holds null bytes)" in refusal(
        folder / "l.txt"
    )
    (folder / "l.txt").write_text("a.png\ngone.png\n")
    assert [reason for _, reason in load_images(open_source(folder / "l.txt"), 8).skipped] == [
        "no such file or directory"
    ]


def test_several_sources_are_one(make_folder, tmp_path, monkeypatch):
    for name in "AB":
        (tmp_path / name).mkdir()
    make_folder(["train/a/0.png", "train/b/1.png", "test/a/2.png", "extra/3.png"], under="A/set")
    make_folder(["b/4.png", "c/5.png"], under="B/set")
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 6, 6), np.uint8))
    monkeypatch.chdir(tmp_path)
    text = "A/set + B/set + c.npz"
    everything, train, test = (open_source(text, split=split) for split in (None, "train", "test"))
    assert everything.paths[-3:] == ["B/set/c/5.png", "c.npz/images/0", "c.npz/images/1"]
    assert everything.class_names == ["a", "b", "c"]
    assert dict(zip(everything.paths, everything.labels.tolist(), strict=True))["B/set/b/4.png"] == 1
    assert [len(part) for part in (everything, train, test)] == [8, 6, 1]
    assert test.paths == ["A/set/test/a/2.png"]
    assert train.left_out == [("A/set/extra/", "1 images outside train/ and test/")]
    assert torch.equal(everything.read(5), open_source("B/set").read(1))
    assert stamps(everything).all()
    assert everything.location == " + ".join(str(tmp_path.resolve() / p) for p in ("A/set", "B/set", "c.npz"))
    assert "There is no file or folder gone" in refusal("A/set + gone")
    assert "is not split" in refusal("B/set + c.npz", split="test")
    assert open_source("B/set + B/set").paths[::2] == ["1/B/set/b/4.png", "2/B/set/b/4.png"]
    images = open_source("B/set/b/4.png + A/set/extra/3.png")
    assert images.paths == ["B/set/b/4.png", "A/set/extra/3.png"]


def test_a_list_in_python_is_of_files_or_of_sources(make_folder, tmp_path, monkeypatch):
    make_folder(["a.png", "b.png"])
    monkeypatch.chdir(tmp_path)
    names = ["pictures", "textures:wood?count=2&test=2&size=16"]
    assert as_name(names) == " + ".join(names)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    assert len(as_source(names)) == 6
    files = ["pictures/a.png", "pictures/b.png"]
    assert as_name(files) == files
    assert as_name([picture()])[0].size == (12, 12)


def test_names_with_a_plus_or_blanks_at_their_ends_are_themselves(make_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lengths = {
        "cats + dogs": 5,
        "cats": 1,
        "dogs": 2,
        "a + + b": 3,
        "ws ": 4,
        "more": 6,
        "+ z + ": 8,
        "x \\+ y": 7,
    }
    for name, count in lengths.items():
        make_folder([f"{i}.png" for i in range(count)], under=name)
    for names in (
        ["cats + dogs", "more"],
        ["cats + dogs", "dogs", "cats"],
        ["cats", "dogs"],
        ["a + + b", "x \\+ y", "ws "],
        ["ws ", "more", "+ z + "],
    ):
        text = as_name(names)
        source = open_source(text)
        assert len(source) == len(as_source(names)) == sum(map(lengths.__getitem__, names)), text
        assert len(open_source(source.location)) == len(source)
    assert len(as_source("cats + dogs")) == 5
    assert len(as_source("cats  +  more")) == 7
    make_folder(["0.png"], under="q?classes=r")
    assert (
        located("q?classes=r")
        == open_source("q?classes=r").location
        == str(tmp_path.resolve() / "q?classes=r")
    )


def test_a_path_object_is_no_built_in(make_folder, tmp_path, monkeypatch):
    make_folder(["0.png"], under="digits")
    monkeypatch.chdir(tmp_path)
    assert len(as_source(Path("./digits"))) == len(open_source(Path("digits"))) == 1
    assert as_name(Path("digits")) == "./digits"
    assert len(as_source([Path("digits"), Path("digits")])) == 2
    assert located(Path("digits")) == str(tmp_path.resolve() / "digits")


def test_tables_as_other_systems_write_them(make_folder):
    folder = make_folder(["a/0.png", "b/1.png", "c/2.png"])
    tables = {
        "cr.csv": "path,label\ra/0.png,x\rb/1.png,y\r",
        "windows.csv": "path,label\na\\0.png,x\nb\\1.png,y\n",
        "commas.txt": "a/0.png,x\nb/1.png,y\n",
        "floats.csv": "path,label\na/0.png,1.0\nb/1.png,2.0\n",
        "zeros.csv": "path,label\na/0.png,01\nb/1.png,1\n",
    }
    classes = {}
    for name, text in tables.items():
        (folder / name).write_bytes(text.encode())
        source = open_source(folder / name)
        assert source.paths == ["a/0.png", "b/1.png"]
        assert not load_images(source, 8).skipped
        classes[name] = [source.class_names[k] for k in source.labels]
    words = {name: ["x", "y"] for name in ("cr.csv", "windows.csv", "commas.txt")}
    assert classes == {**words, "floats.csv": ["1", "2"], "zeros.csv": ["01", "1"]}
    for name, text, said in (
        ("huge.csv", f"path,label\na/0.png,{'x' * 200000}\n", "cannot be read as a table (field larger than"),
        ("nul.csv", "path\na\0/0.png\n", "it holds null bytes"),
        (
            "measured.csv",
            "path,target\na/0.png,0.5\nb/1.png,1\n",
            "has a label of 0.5, and labels are classes",
        ),
        ("inf.csv", "path,target\na/0.png,inf\n", "has a label of inf"),
    ):
        (folder / name).write_text(text)
        assert said in refusal(folder / name)


def test_of_several_columns_it_is_said_which_were_taken(make_folder):
    folder = make_folder(["a/0.png", "b/1.png"])
    file = folder / "t.csv"
    file.write_text("x,y,file\n10,20,a/0.png\n11,21,b/1.png\n")
    source = open_source(file)
    assert source.class_names == ["a", "b"]
    assert set_aside(source.subset([0])) == "Of t.csv column file is taken as the path, none as the label."
    file.write_text("a/0.png,12,x\nb/1.png,13,y\n")
    assert open_source(file).notes == ("Of t.csv column 1 is taken as the path, none as the label.",)
    file.write_text("id,path,class\n0,a/0.png,x\n1,b/1.png,y\n")
    joined = open_source(f"{file} + {folder}/a")
    assert joined.notes == ("Of t.csv column path is taken as the path, column class as the label.",)
    file.write_text("path,label\na/0.png,x\n")
    assert set_aside(open_source(file)) is None


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pyarrow, which reads them, is not installed. Type: pip install pyarrow." in refusal(
        tmp_path / "x.parquet"
    )


@pytest.fixture
def parquet(tmp_path):
    """``parquet(name, seeds, ...)`` writes pictures as Hugging Face's data sets do."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    def write(name, seeds, *, labels=None, plain=False, names=("ape", "bee")):
        bodies = []
        for seed in seeds:
            stream = io.BytesIO()
            if seed is not None:
                picture(seed).save(stream, "PNG")
            bodies.append(None if seed is None else stream.getvalue())
        columns = {"image": bodies if plain else [{"bytes": b, "path": None} for b in bodies]}
        if labels is not None:
            columns["label"] = labels
        features = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(features)})
        (tmp_path / name).parent.mkdir(exist_ok=True)
        parquet.write_table(table, tmp_path / name, row_group_size=2)
        return tmp_path / name

    return write


def test_tables_of_encoded_images(parquet, tmp_path):
    parquet("set/train-00000-of-00002.parquet", range(5), labels=[0, 1, 0, 1, 1])
    parquet("set/train-00001-of-00002.parquet", range(5, 8), labels=[1, 0, None])
    parquet("set/test-00000-of-00001.parquet", range(10, 12), labels=[0, 0])
    train, test, everything = (
        open_source(tmp_path / "set", split=split) for split in ("train", "test", None)
    )
    assert [len(part) for part in (train, test, everything)] == [8, 2, 10]
    assert train.class_names == ["ape", "bee"]
    assert train.labels.tolist() == [0, 1, 0, 1, 1, 1, 0, -1]
    order = [7, 0, 5, 4, 3, 2, 1, 6]
    for source in (train, pickle.loads(pickle.dumps(train))):
        for i in order:
            assert np.array_equal(source.read(i).permute(1, 2, 0).numpy(), np.asarray(picture(i)))
    assert len(open_source(f"{tmp_path}/set/train-*.parquet")) == 8
    assert stamps(everything).all()


def test_other_tables(parquet, tmp_path):
    words = open_source(parquet("words.parquet", [0, 1, None], labels=["x", "y", "x"], plain=True, names=()))
    assert words.class_names == ["x", "y"]
    assert [reason for _, reason in load_images(words, 8).skipped] == ["the row holds no bytes of an image"]
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    assert "it holds text string; expected a column of encoded images" in refusal(tmp_path / "text.parquet")
    (tmp_path / "text.parquet").write_bytes(b"PAR1 and no more")
    assert "text.parquet cannot be used: " in refusal(tmp_path / "text.parquet")
