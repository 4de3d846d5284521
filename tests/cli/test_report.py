"""``isosphere report`` as it is typed."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from isosphere.report import _collapse
from isosphere.runs import RunFolder

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture
def trained(run, split, quick):
    assert run("train", split, "--out", "r", *quick).code == 0
    return "r"


def test_a_report_of_a_run(run, trained, split):
    assert run("evaluate", trained, split, "--tasks", "knn").code == 0
    done = run("report", trained)
    assert (done.code, done.err) == (0, "")
    text = Path("r/report.html").read_text(encoding="utf-8")
    assert "trained encoder" in text
    assert "among 10 images" in text  # those of the test part
    assert "report.html" in done.out
    again = run("report", trained, "--limit", "5")
    assert again.code == 0
    assert "among 5 images" in Path("r/report.html").read_text(encoding="utf-8")


def test_two_runs_on_named_images(run, trained, split, classes):
    shutil.copytree("r", "other/r")
    done = run("report", "r", "other/r", "--data", classes, "--limit", 30, "--out", "pages/both.html")
    assert done.code == 0, done.err
    text = Path("pages/both.html").read_text(encoding="utf-8")
    assert "other/r" in text
    assert "among 30 images" in text
    alone = run("report", "r", "other/r", "--data", classes, "--limit", 30)
    assert (alone.code, "r/comparison.html" in alone.out) == (0, True), alone.err
    assert not Path("r/report.html").exists()
    twice = run("report", "r", "r", "--out", "x.html")
    assert twice.code == 2
    assert "twice" in twice.err
    kept = run("report", "r", "--out", "pages/both.html")
    assert kept.code == 2
    assert "--overwrite" in kept.err


def test_images_that_are_gone_are_said_and_do_not_stop_it(run, trained):
    config = Path("r/config.yaml")
    lines = config.read_text().splitlines()
    config.write_text(
        "\n".join("  source: gone-away" if line.startswith("  source:") else line for line in lines)
    )
    done = run("report", trained)
    assert done.code == 0, done.err
    assert "--data DATA" in done.out
    assert "gone-away" in Path("r/report.html").read_text(encoding="utf-8")
    named = run("report", trained, "--data", "gone-away", "--out", "x.html")
    assert named.code == 2
    assert not Path("x.html").exists()


def test_refusals(run, trained, monkeypatch):
    assert run("report", "absent").code == 2
    assert run("report", trained, "--out", "r.pdf").code == 2
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "writable", False)
        assert "r cannot be written to: give --out report.html." in run("report", trained).err
    other = run("report", trained, "--map", "tsne")
    assert other.code == 2
    assert "pca or umap" in other.err


def test_a_map_by_umap_or_what_to_type_for_it(run, trained):
    done = run("report", trained, "--map", "umap")
    if find_spec("umap") is None:
        assert done.code == 2
        assert "pip install umap-learn" in done.err
        assert not Path("r/report.html").exists()
    else:
        assert done.code == 0
        assert "by UMAP" in Path("r/report.html").read_text(encoding="utf-8")


def test_figures_of_other_weights_are_left_out_and_said(run, trained, split, quick):
    assert run("evaluate", trained, split, "--tasks", "knn,retrieval").code == 0
    longer = [word for word in quick if not word.startswith("--epochs")]
    assert run("train", split, "--out", trained, "--resume", "--epochs=2", *longer).code == 0
    assert run("evaluate", trained, split, "--tasks", "retrieval").code == 0
    done = run("report", trained)
    said, again = " ".join(done.out.split()), f"isosphere evaluate r {split} --tasks knn"
    text = Path("r/report.html").read_text(encoding="utf-8")
    for words in ("The figures of knn were measured with other weights", again):
        assert words in said, said
        assert words in text
    assert "k-NN accuracy, %" not in text
    assert "The other view of an image" in text
    assert run("evaluate", trained, split, "--tasks", "knn").code == 0
    assert "other weights" not in run("report", trained).out
    assert "k-NN accuracy, %" in Path("r/report.html").read_text(encoding="utf-8")


def test_figures_of_different_images_or_of_unknown_weights_are_marked(run, trained, split):
    assert run("evaluate", trained, split, "--tasks", "knn").code == 0
    assert run("evaluate", trained, split, "--tasks", "linear").code == 0
    assert "Not all figures are of the same images" not in run("report", trained).out
    assert run("evaluate", trained, split, "--tasks", "linear", "--limit", "8").code == 0
    said = " ".join(run("report", trained).out.split())
    assert "Not all figures are of the same images (knn: data" in said
    assert "training images 30, test images 10" in said
    assert "training images 8, test images 8" in said
    assert f"isosphere evaluate r {split} --tasks knn,linear" in said
    assert "Not all figures are of the same images" in Path("r/report.html").read_text(encoding="utf-8")
    file = Path("r/evaluation.json")
    older = {k: {**v, "weights": ""} for k, v in json.loads(file.read_text()).items() if k == "knn"}
    file.write_text(json.dumps(older))
    assert "The figures of knn do not say of which weights they are" in " ".join(
        run("report", trained).out.split()
    )


def test_a_run_that_is_nearly_one_point_is_said_to_be(run, trained, split, monkeypatch):
    monkeypatch.setattr(_collapse, "COLLAPSED", -1.0)
    monkeypatch.setattr(_collapse, "LEAST", 5)
    done = run("report", trained)
    assert done.code == 0, done.err
    words = "The encoder has collapsed, or has hardly been trained. Train longer (isosphere train"
    assert words in " ".join(done.out.split())
    assert words in Path("r/report.html").read_text(encoding="utf-8")
