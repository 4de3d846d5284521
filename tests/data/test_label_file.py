"""Files of labels: labels follow the content of pictures."""

import shutil

import numpy as np
import pytest
from PIL import Image

from isosphere.data import (
    LabelRow,
    LabelTable,
    as_source,
    digests,
    hex_digest,
    match_labels,
    open_source,
    read_label_file,
)
from isosphere.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for i in range(6):
        path = root / ("left" if i < 3 else "right") / f"{i % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return root


def test_labels_follow_the_content_of_renamed_pictures(folder, tmp_path):
    source = as_source(folder)
    file = tmp_path / "labels.csv"
    table, known = LabelTable.empty(), digests(source)
    said = {4: "cat, big", 0: "dog", 2: 'do"g'}
    rows = [LabelRow(label, source.paths[i], hex_digest(known[i])) for i, label in said.items()]
    table.put({row.digest: row for row in rows}, lambda row: None)
    table.write(file)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        shutil.copy(path, moved / f"{9 - i}.png")
    shutil.copy(folder / "left" / "0.png", moved / "again.png")
    found = match_labels(open_source(str(moved)), read_label_file(file))
    named = {
        path: found.class_names[label]
        for path, label in zip(open_source(str(moved)).paths, found.labels, strict=True)
        if label >= 0
    }
    assert named == {"9.png": "dog", "again.png": "dog", "7.png": 'do"g', "5.png": "cat, big"}
    assert (found.count, found.missing, found.contradicted) == (4, [], [])


def test_a_table_of_paths_by_hand(folder, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(
        "Path;Class;Patient\nleft/0.png;10;p1\npictures/left/1.png;9;p1\nright/0.png;9;p2\ngone.png;9;\n"
    )
    rows = read_label_file(file)
    found = match_labels(as_source(folder), rows, group="Patient")
    assert found.class_names == ["9", "10"]
    assert found.labels.tolist() == [1, 0, -1, 0, -1, -1]
    assert found.groups.tolist() == [0, 0, -1, 1, -1, -1]
    assert found.missing == ["gone.png"]
    assert "1 row of the labels fit no image: gone.png." in found.remarks
    absolute = [LabelRow("a", str(folder / "right" / "2.png")), LabelRow("b", "0.png")]
    alone = match_labels(as_source(folder), absolute)
    assert alone.labels.tolist() == [-1, -1, -1, -1, -1, 0]
    assert alone.missing == ["0.png"]  # of two
    with pytest.raises(UsageError, match=r"no such column.*Did you mean 'patient'"):
        match_labels(as_source(folder), rows, group="patent")


def test_what_contradicts_itself_is_left_out(folder):
    shutil.copy(folder / "left" / "0.png", folder / "right" / "0.png")
    rows = [LabelRow("a", "left/0.png"), LabelRow("b", "right/0.png"), LabelRow("a", "left/1.png")]
    found = match_labels(as_source(folder), rows)
    assert found.labels.tolist() == [-1, 0, -1, -1, -1, -1]
    assert found.contradicted == ["left/0.png", "right/0.png"]
    assert "two different labels" in found.remarks[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "of an empty file"),
        ("path,name\na.png,b\n", "expected one called label"),
        ("label\nb\n", "called path or digest"),
        ('path,label\n"a.png,b\n', "unexpected end of data, line 2"),
        ("digest,label\nabc,b\n", "expected 32 hexadecimal digits"),
    ],
)
def test_other_files_are_refused(folder, tmp_path, text, said):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        match_labels(as_source(folder), read_label_file(file))
    with pytest.raises(UsageError, match="cannot be read"):
        read_label_file(tmp_path / "none.csv")


def test_all_that_stands_in_a_table_stays(tmp_path):
    """Columns without a heading or with the same one, blanks, a cell too many, the order of rows."""
    file = tmp_path / "mine.csv"
    file.write_text(
        ",Path,Label,Patient,note,note\n1,b.png,dog,A2,keep me,and me\n2,a.png,cat, B3 ,,x,one more\n3,c.png,cat,,,\n"
    )
    table = LabelTable.read(file)
    zeros, said = "0" * 31, {"b.png": "cow", "c.png": "", "d.png": "elk"}
    new = {path: LabelRow(label, path, f"{zeros}{n}") for n, (path, label) in enumerate(said.items())}
    table.put(new, lambda row: row.path if row.path in said else None)
    table.write(file)
    assert file.read_text().splitlines() == [
        "digest,,Path,Label,Patient,note,note",
        f"{zeros}0,1,b.png,cow,A2,keep me,and me",
        ",2,a.png,cat, B3 ,,x,one more",
        f"{zeros}1,3,c.png,,,,",
        f"{zeros}2,,d.png,elk,,,",
    ]
    assert [(row.label, row.path, row.cells) for row in read_label_file(file)[:2]] == [
        ("cow", "b.png", {"patient": "A2", "note": "and me"}),
        ("cat", "a.png", {"patient": "B3", "note": "x"}),
    ]


def test_of_numbers_and_names_the_names_are_the_labels(tmp_path):
    """The table that embed writes: a number and a name of each class."""
    file = tmp_path / "embeddings.csv"
    file.write_text("path,label,class,e0\na.png,0,dog,.1\nb.png,1,cat,.2\nc.png,-1,,.3\n")
    assert [row.label for row in read_label_file(file)] == ["dog", "cat", ""]
    file.write_text("path,label,class\na.png,oak,tree\nb.png,1,tree\n")
    assert [row.label for row in read_label_file(file)] == ["oak", "1"]
