"""``outliers``, ``select``, ``cluster``, ``dedup``, ``probe`` and ``compare`` as they are typed."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.cli.classes import say_classes
from isosphere.data import as_source, load_images
from isosphere.deploy import Predictions, read_embeddings
from isosphere.tabular import csv_rows, csv_text


@pytest.fixture(scope="module")
def made(tmp_path_factory, classes):
    """A run of one epoch, made once."""
    from isosphere.cli import main
    from tests.cli.conftest import QUICK

    out = tmp_path_factory.mktemp("made") / "r"
    assert main(["train", str(classes), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def trained(run, made):
    return shutil.copytree(made, "r")


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_outliers_select_and_cluster_for_people_and_for_programs(run, trained, classes):
    for words, columns in (
        (
            ["outliers", trained, classes, "-k", 5],
            ["rank", "path", "distance", "nearest", "similarity", "label"],
        ),
        (["select", trained, classes, "-k", 5], ["rank", "path", "label", "distance"]),
        (["select", trained, classes, "-k", 5, "--how", "typical"], ["rank", "path", "label", "images"]),
        (["cluster", trained, classes, "-k", 3], ["cluster", "path", "similarity", "label"]),
    ):
        text = run(*words)
        assert text.code == 0, text.err
        rows, given = table(run(*words, "--csv").out), json.loads(run(*words, "--json").out)
        assert list(rows[0]) == columns, words
        assert len(rows) == (60 if words[0] == "cluster" else 5)
        assert given["images"] == 60
        assert [row["path"] for row in given["rows"]] == [row["path"] for row in rows]
        assert rows[0]["label"] in ("blue", "red")
        if words[0] != "cluster":
            assert all(row["path"] in text.out for row in rows)
        own = run(*(word for word in words if word != classes))  # those of its training
        assert own.out == text.out, own.err
        both = run(*words, "--csv", "--json")
        assert both.code == 2
        assert "give one of them" in both.err
    assert "1 to 60" in run("select", trained, classes, "-k", 61).err


def test_labelled_images_are_not_chosen_again(run, trained, classes):
    first = run("select", trained, classes, "-k", 5, "--csv").out
    Path("labels.csv").write_text(first)
    again = table(run("select", trained, classes, "-k", 5, "--labels", "labels.csv", "--csv").out)
    assert not {row["path"] for row in again} & {row["path"] for row in table(first)}


def test_search_prints_a_table_for_programs(run, trained, classes):
    query = classes / "red" / "11.png"
    rows = table(run("search", trained, query, "--in", classes, "-k", 2, "--csv").out)
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert rows[0]["path"] == "red/11.png"


@pytest.fixture
def copied(tmp_path) -> Path:
    """30 pictures of noise, the first five of them again as JPEGs."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for i in range(30):
        small = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        image = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:02d}.png")
        if i < 5:
            image.save(folder / f"{i:02d} again.jpg", quality=90)
    return folder


def test_a_threshold_from_copies_and_what_is_kept(run, trained, copied):
    text = run("dedup", trained, copied)
    assert text.code == 0, text.err
    said = " ".join(text.out.split())
    assert "of 35 made of these images" in said
    assert "expected among 595 pairs of different images" in said
    assert "which finds copies best (average precision, %: backbone" in said
    found = json.loads(run("dedup", trained, copied, "--json").out)
    assert found["pairs"] == 595
    assert {"recall", "by_kind", "average_precision", "made"} == set(found["copies"])
    at = ["--threshold", 0.999, "--layer", "backbone"]
    rows = table(run("dedup", trained, copied, *at, "--csv", "--keep", "largest", "--list", "kept.txt").out)
    kept = Path("kept.txt").read_text().splitlines()
    assert len(kept) == 35 - sum(row["keep"] == "no" for row in rows)
    assert all(Path(name).is_file() for name in kept)
    assert "0 groups" in run("dedup", trained, "kept.txt", *at).out
    assert run("dedup", trained, copied, *at, "--list", "kept.txt").code == 2  # is there
    assert "expected first, largest, sharpest" in run("dedup", trained, copied, "--keep", "best").err


def test_between_sets(run, trained, copied, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(copied / "07.png", other / "x.png")
    shutil.copy(copied / "07.png", other / "y.png")
    at = ["--threshold", 0.999999, "--layer", "backbone", "--csv"]
    rows = table(run("dedup", trained, copied, other, *at, "--keep", "first").out)
    assert [(row["path"], row["keep"]) for row in rows] == [
        ("copied/07.png", "yes"),
        ("other/x.png", "no"),
        ("other/y.png", "no"),
    ]
    shared = run("dedup", trained, copied, copied / "07.png", *at[:-1], "--list", "kept.txt")
    assert "1 image is in several sets by the same path (" in " ".join(shared.out.split()), shared.err
    assert "35 images to keep, 0 to drop" in shared.out
    rows = table(run("dedup", trained, copied, copied / "07.png", *at, "--keep", "first").out)
    assert [(row["set"], row["keep"]) for row in rows] == [("1", "yes"), ("2", "yes")]
    one = table(run("dedup", trained, f"{other} + {copied}", *at).out)
    assert {row["path"] for row in one} >= {"other/x.png", "other/y.png", "copied/07.png"}


def test_pairs_near_the_threshold_are_answered(run, trained, copied):
    at = ["--threshold", 0.99, "--layer", "backbone"]
    done = run("dedup", trained, copied, *at, "--pairs", "pairs.csv")
    assert "40 pairs to be answered: pairs.csv" in done.out
    rows = table(Path("pairs.csv").read_text())
    assert len(rows) == 40
    for row in rows:
        row["same"] = "yes" if row["first"][:2] == row["second"][:2] else "no"
    text = "first,second,similarity,same\n" + "".join(f"{','.join(row.values())}\n" for row in rows)
    Path("answers.csv").write_text(text)
    said = json.loads(run("dedup", trained, copied, *at, "--answers", "answers.csv", "--json").out)["answers"]
    above = [row["same"] == "yes" for row in rows if float(row["similarity"]) >= 0.99]
    assert said["precision"]["value"] == pytest.approx(np.mean(above))
    assert said["precision"]["low"] <= said["precision"]["value"] < said["precision"]["high"]
    assert "By your answers" in run("dedup", trained, copied, *at, "--answers", "answers.csv").out
    assert run("dedup", trained, copied, *at, "--answers", "pairs.csv").code == 2
    page = run("dedup", trained, copied, *at, "--pairs", "pairs.html")
    assert page.code == 0, page.err
    html = Path("pairs.html").read_text(encoding="utf-8")
    assert html.count('class="pair"') == 40
    assert html.count('type="radio"') == 80
    assert 'src="http' not in html


def test_a_probe_is_fitted_judged_saved_and_applied(run, trained, classes):
    done = run("probe", trained, classes)
    assert done.code == 0, done.err
    assert "Recall of each class" in done.out
    assert "accuracy" in done.out
    assert "isosphere embed r" in done.out
    file = Path(trained) / "probe.safetensors"
    assert file.is_file()
    before, again = file.read_bytes(), run("probe", trained, classes)
    assert again.code == 2
    assert "r/probe.safetensors exists: add --overwrite, or give another --out." in again.err
    assert file.read_bytes() == before
    probe = ["probe", trained, classes, "--overwrite"]
    given = json.loads(run(*probe, "--json").out)
    assert given["accuracy"]["value"] > 0.9
    assert given["images"] == 60
    assert set(given["recall"]) == {"blue", "red"}
    assert {row["class"] for row in table(run(*probe, "--csv").out)} == {"blue", "red"}
    for ending in ("csv", "npz", "pt"):
        applied = run("embed", trained, classes, "--classify", file, "--out", f"e.{ending}")
        assert applied.code == 0, applied.err
        assert len(read_embeddings(f"e.{ending}")) == 60
        counted = {line.split()[0]: line.split()[1:] for line in applied.out.splitlines() if line[:2] == "  "}
        assert counted["class"] == ["images", "mean", "confidence"]
        assert int(counted["red"][0]) + int(counted["blue"][0]) == 60
    rows = table(Path("e.csv").read_text())
    assert list(rows[0]) == ["path", "label", "class", "predicted", "confidence"]
    assert read_embeddings("e.csv").values.shape == (60, 0)
    both = run("embed", trained, classes, "--classify", file, "--embeddings", "--out", "both.csv")
    assert "embeddings  60 of 256 dimensions" in both.out
    found = read_embeddings("both.csv")
    assert found.values.shape == (60, 256)
    assert [row["predicted"] for row in table(Path("both.csv").read_text())] == [
        row["predicted"] for row in rows
    ]
    right = [row["predicted"] == row["class"] for row in rows]
    assert np.mean(right) > 0.9
    assert all(0.5 <= float(row["confidence"]) <= 1 for row in rows)
    of_red = [float(row["confidence"]) for row in rows if row["predicted"] == "red"]
    assert counted["red"] == [str(len(of_red)), f"{100 * np.mean(of_red):.0f}", "%"]
    assert "below 50 %" not in applied.out
    Path("flat").mkdir()
    shutil.copy(classes / "red" / "1.png", Path("flat"))
    for more, numbers in (([], 0), (["--embeddings"], 256)):
        assert (
            run("embed", trained, "flat", "--classify", file, *more, "--out", f"flat{numbers}.csv").code == 0
        )
        (row,) = table(Path(f"flat{numbers}.csv").read_text())
        assert list(row)[:3] == ["path", "predicted", "confidence"]
        assert read_embeddings(f"flat{numbers}.csv").values.shape == (1, numbers)
    (classes / "red").rename(classes / "rot")
    assert (
        "Not among the classes of the classifier: rot."
        in run("embed", trained, classes, "--classify", file, "--out", "g.csv").out
    )
    (classes / "rot").rename(classes / "red")
    with np.load("e.npz", allow_pickle=False) as arrays:
        assert arrays["predicted"].tolist() == [row["predicted"] for row in rows]
        np.testing.assert_allclose(
            arrays["confidence"], [float(row["confidence"]) for row in rows], rtol=1e-6
        )
    wrong = run("embed", trained, classes, "--classify", file, "--out", "f.csv", "--layer", "head")
    assert wrong.code == 2
    assert "--layer backbone" in wrong.err
    assert "no classifier at" in run("embed", trained, classes, "--classify", "n", "--out", "f.csv").err
    other = run("embed", trained, classes, "--classify", f"{trained}/encoder.safetensors", "--out", "f.csv")
    assert "is no classifier" in other.err


def test_pictures_of_no_probable_class_are_counted(capsys):
    said = Predictions(np.array([2, 0, 2, 2]), np.array([0.4, 0.9, 0.49, 0.8], np.float32), ("a", "b", "c"))
    say_classes(said, as_source(np.zeros((4, 8, 8), np.uint8)))
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[2:5]] == [
        ["c", "3", "56", "%"],
        ["a", "1", "90", "%"],
        ["b", "0", "\u2013"],
    ]
    assert "2 images of 4 with a confidence below 50 %: look at them first." in out
    assert "Every image is given one of these 3 classes" in out


def test_labels_come_from_a_file_and_groups_stay_together(run, trained, classes):
    names = sorted(f"{p.parent.name}/{p.name}" for p in classes.rglob("*.png"))
    lines = [f"{name},{name[0]},{i // 5}" for i, name in enumerate(names[:50])]
    Path("labels.csv").write_text("path,label,patient\n" + "\n".join(lines) + "\ngone.png,b,1\n")
    given = json.loads(
        run("probe", trained, classes, "--labels", "labels.csv", "--group", "patient", "--json").out
    )
    assert (given["images"], set(given["recall"])) == (50, {"b", "r"})
    assert given["groups"] <= 10
    assert any("gone.png" in remark for remark in given["remarks"])
    again = ["probe", trained, classes, "--overwrite", "--labels"]
    few = run(*again, "labels.csv", "--group", "patent")
    assert (few.code, "Did you mean 'patient'?" in few.err) == (2, True)
    Path("few.csv").write_text("path,label\n" + "\n".join(line.rsplit(",", 1)[0] for line in lines[:5]))
    assert "expected at least 10, in two" in run(*again, "few.csv").err


def test_classes_that_are_written_nearly_alike_are_named(run, trained, classes):
    names = sorted(f"{p.parent.name}/{p.name}" for p in classes.rglob("*.png"))
    labels = ["1", "1.0", "Cat", "cat", "dog"]
    text = "".join(f"{name},{labels[i % 5]}\n" for i, name in enumerate(names))
    Path("labels.csv").write_text("path,label\n" + text)
    said = "Classes that are written nearly alike count as different ones: '1' and '1.0', 'Cat' and 'cat'."
    assert said in run("probe", trained, classes, "--labels", "labels.csv").out
    assert said in run("compare", trained, "--in", classes, "--labels", "labels.csv", "--passes", 1).out


def test_nothing_is_left_to_select(run, trained, classes):
    names = sorted(f"{p.parent.name}/{p.name}" for p in classes.rglob("*.png"))
    for labelled, said in (
        (60, "All 60 images have a label: none is left to choose."),
        (58, "-k: got 5, expected 1 to 2, the number of images without a label."),
    ):
        Path("labels.csv").write_text("path,label\n" + "".join(f"{name},a\n" for name in names[:labelled]))
        done = run("select", trained, classes, "-k", 5, "--labels", "labels.csv")
        assert (done.code, said in done.err) == (2, True), done.err


def test_runs_are_compared_on_the_same_labels(run, trained, classes):
    given = json.loads(run("compare", trained, "--in", classes, "--json").out)
    assert {(row["layer"], row["passes"]) for row in given["rows"]} >= {
        (layer, passes) for layer in ("backbone", "head", "wccn") for passes in (1, 2)
    }
    assert any("before training" in row["run"] for row in given["rows"])
    accuracies = [row["accuracy"] for row in given["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert given["rows"][0]["behind"] is None
    assert all(row["behind"] >= 0 for row in given["rows"][1:])
    text = run("compare", trained, "--in", classes, "--passes", 1, "--layer", "backbone", "--layer", "head")
    assert text.code == 0, text.err
    assert "60 labels" in text.out
    assert "2 passes" not in text.out
    for layer in ("typo", "adapted"):
        refused = run("compare", trained, "--in", classes, "--layer", layer, "--layer", "head")
        assert refused.code == 2
        assert "--layer" in refused.err
        assert layer in refused.err


ODD = (
    *("a\rb.png", "a\nb.png", "a\tb\x1b[31m.png", 'q"uote.png', "com,ma.png", "=x.png", "byte\udcff.png"),
    *(
        r"byte\udcff.png",
        "two words.png",
        " lead.png",
        "trail .png",
        "#hash.png",
        "semi;colon.png",
        "-dash.png",
    ),
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Pictures with names that tables break on, two of each."""
    folder = tmp_path_factory.mktemp("odd")
    for i, name in enumerate([*ODD, *(f"p{i}.png" for i in range(14))]):
        noise = np.random.default_rng(i).integers(0, 120, (16, 16, 3)) + np.array([130 * (i % 2), 60, 0])
        Image.fromarray(noise.astype(np.uint8)).save(folder / name, "PNG")
    return folder


def test_tables_of_odd_names_are_fed_back(run, trained, odd):
    """What a command writes, another reads: tables to label, lists of files, pairs to answer."""
    chosen = run("select", trained, odd, "-k", 28, "--csv").out
    assert {r"byte\udcff.png", r"byte\\udcff.png"} <= {row["path"] for row in table(chosen)}
    everyone = {path.name for path in odd.iterdir()}
    for words in (["outliers", "-k", 28], ["cluster"], ["dedup", "--threshold", -0.9], ["select", "-k", 28]):
        rows = csv_rows(run(words[0], trained, odd, *words[1:], "--csv").out)
        assert {row[rows[0].index("path")] for row in rows[1:]} == everyone
    head, *rows = csv_rows(chosen)
    rows = [[*row, "even" if i % 2 else "odd"] for i, row in enumerate(rows)]
    Path("labels.csv").write_bytes(csv_text([["rank", "path", "none", "distance", "label"], *rows]).encode())
    done = run("probe", trained, odd, "--labels", "labels.csv", "--json")
    assert (done.code, json.loads(done.out)["images"]) == (0, 28), done.err
    assert "fit no image" not in done.err
    assert run("compare", trained, "--in", odd, "--labels", "labels.csv", "--passes", 1).code == 0
    assert run("embed", trained, odd, "--out", "e.csv").code == 0
    assert set(read_embeddings("e.csv").paths) == everyone
    at = ["--threshold", 0.9999999, "--layer", "backbone"]
    assert run("dedup", trained, odd, *at, "--list", "kept.csv", "--pairs", "pairs.csv").code == 0
    assert len(as_source("kept.csv")) == 28
    assert load_images(as_source("kept.csv"), 8).skipped == []
    head, *pairs = csv_rows(Path("pairs.csv").read_bytes().decode())
    assert {name for row in pairs for name in row[:2]} <= everyone
    Path("answers.csv").write_bytes(csv_text([head, *([*row[:3], "no"] for row in pairs)]).encode())
    answered = run("dedup", trained, odd, *at, "--answers", "answers.csv")
    assert "By your answers" in answered.out, answered.err
    refused = run("dedup", trained, odd, *at, "--list", "kept.txt")
    assert refused.code == 2
    assert "Give --list kept.csv" in refused.err
    query = odd / "byte\udcff.png"
    rows = csv_rows(run("search", trained, query, "--in", odd, "--csv").out)
    assert [row[0] for row in rows[1:]] == [str(query)] * 5
    assert rows[1][rows[0].index("path")] == query.name


def test_a_list_of_lines_holds_bytes_that_are_no_text(run, trained, odd):
    Path("some").mkdir()
    for name in ODD[2:]:
        shutil.copy(odd / name, Path("some") / name)
    assert run("dedup", trained, "some", "--threshold", 0.9999999, "--list", "kept.txt").code == 0
    assert load_images(as_source("kept.txt"), 8).skipped == []
    assert {Path(path).name for path in as_source("kept.txt").paths} == set(ODD[2:])
