"""Tables of records: of a run that is kept, of several runs, of files of other versions."""

import math
from pathlib import Path

import pytest

from isosphere.evaluation import Estimate
from isosphere.evaluation._results import Figure, TaskResult, read_results
from isosphere.report import Layout, evaluation_tables, lay_out, model_words, number
from isosphere.runs import RunFolder
from isosphere.workflows import TASKS

LAYOUTS = {name: task.layouts for name, task in TASKS.items()}

KEPT = Path(__file__).parent.parent / "kept_run"


@pytest.fixture(scope="module")
def kept():
    return read_results(RunFolder(KEPT))


def figure(key, value, *, half=0.02, **fields):
    model, layer, metric = key.split("/")
    return Figure(model, layer, metric, Estimate(value, value - half, value + half), **fields)


def accuracy(*, better=0.0, kernels=("",), **protocol):
    """A trained encoder, which may be better, and raw pixels."""
    figures = [
        figure(key, value, variant=kernel)
        for kernel in kernels
        for key, value in {
            "trained/backbone/accuracy": 0.5 + better,
            "pixels//accuracy": 0.4 + better,
        }.items()
    ]
    return TaskResult("knn", tuple(figures), protocol)


def table(layouts, results, start=""):
    (found,) = (t for t in lay_out(layouts, results) if t.title.startswith(start))
    return found


def test_the_kept_run_of_an_older_version_reads_as_the_command_line_printed_it(kept):
    made = {t.title: t for t in evaluation_tables({"a": kept}, LAYOUTS)}
    rows = made["k-NN accuracy, % [95 %]; k = 20; 200 test images"].text_rows()
    assert rows[:2] == [["features", "accuracy"], ["trained encoder", "74.5 [68.0, 80.0]"]]
    assert [row[0] for row in rows[2:5]] == ["its head", "untrained encoder", "trained encoder, WCCN"]
    views = made["The other view of an image among 100, % [95 %]; 200 test images"].text_rows()
    assert views[0] == ["features", "R@1", "R@3", "R@5", "mAP", "R@1 of 199"]
    assert views[3] == [
        "trained encoder, WCCN",
        *("4.0 [2.0, 7.7]", "9.5 [6.2, 14.4]", "13.5 [9.4, 18.9]", "10.8 [8.2, 13.7]", "1.5 [0.5, 4.3]"),
    ]
    classes = made["Images of the same class among 200 test images, % [95 %]"]
    assert classes.columns == ["R@1", "R@5", "R@10", "mAP"]
    ood = made["textures:wood (60 images) against the 200 test images, % [95 %]"]
    assert ood.text_rows()[1][:2] == ["trained encoder, distance to 50th neighbour", "89.8 [86.0, 93.4]"]
    assert ood.columns == ["AUROC", "AUPR out", "AUPR in", "FPR at 95 % TPR"]
    geometry = made["Geometry of the embeddings of 200 test images [95 %]"]
    assert geometry.columns == ["trained", "untrained"]
    assert "effective rank: directions in use (at most 8)" in [row.name for row in geometry.rows]
    assert "z-score from uniform, MMD, heat kernel (within 2: uniform)" in [row.name for row in geometry.rows]
    assert "rankme" not in [row.name for row in geometry.rows]
    unlabelled = made["Without labels [95 %]; 200 test images"]
    assert unlabelled.columns == ["its head", "trained encoder", "untrained head", "untrained encoder"]
    assert unlabelled.rows[0].name == "R@1 of the other view, % (high is good)"


def test_tables_come_in_the_order_of_the_layouts_and_tasks_without_one_last(kept):
    titles = [t.title for t in evaluation_tables({"a": kept}, {"ridge": LAYOUTS["ridge"]})]
    assert titles[0].startswith("Kernel ridge")
    assert titles[1] == "knn"
    linear = next(t for t in evaluation_tables({"a": kept}) if t.title == "linear")
    assert linear.text_rows()[1] == ["trained encoder", "0.840 [0.783, 0.884]"]
    ood = next(t for t in evaluation_tables({"a": kept}) if t.title.startswith("ood"))
    assert ood.title == "ood: textures:wood"
    assert ood.text_rows()[1] == [
        "trained encoder, knn",
        *("0.898 [0.860, 0.934]", "0.609 [0.517, 0.748]", "0.971 [0.960, 0.982]", "0.245 [0.160, 0.395]"),
    ]
    assert linear.note.startswith("data: digits; training images: 200; test images: 200; split")


def test_several_runs_are_columns_and_the_best_trained_figure_is_marked():
    both = ("exponential", "linear")
    runs = {
        "a": accuracy(kernels=both),
        "b": accuracy(kernels=both, better=0.1),
        "c": TaskResult("knn", (), {}),
    }
    made = table(LAYOUTS["ridge"], runs)
    assert made.columns == ["a", "b", "c"]
    assert [row.name for row in made.rows] == [
        "trained encoder, exponential kernel",
        "raw pixels, exponential kernel",
        "trained encoder, linear kernel",
        "raw pixels, linear kernel",
    ]
    assert [cell.best for cell in made.rows[0].cells] == [False, True, False]
    assert not any(cell.best for cell in made.rows[1].cells)  # what is not trained has no best run
    assert made.rows[0].cells[2].text == "\u2013"
    one_metric = table(LAYOUTS["knn"], {"a": accuracy(), "b": accuracy(better=0.1)})
    assert [row.name for row in one_metric.rows] == ["trained encoder", "raw pixels"]
    same = table(LAYOUTS["knn"], {"a": accuracy(), "b": accuracy(), "c": TaskResult("knn", (), {})})
    assert not any(cell.best for row in same.rows for cell in row.cells)


def test_runs_of_several_kinds_share_rows_and_the_columns_say_which_is_which():
    runs = {"a": accuracy(network="frozen"), "t": accuracy(), "u": accuracy(network="unchanged")}
    made = table(LAYOUTS["knn"], runs)
    assert made.columns == ["a (frozen)", "t (trained)", "u (unchanged)"]
    assert [row.name for row in made.rows] == ["encoder", "raw pixels"]
    alone = {name: table(LAYOUTS["knn"], {name: run}).rows[0].name for name, run in runs.items()}
    assert alone == {"a": "frozen encoder", "t": "trained encoder", "u": "unchanged encoder"}
    spread = {
        name: TaskResult("geometry", (figure("trained/head/uniformity", -1.0),), {"layer": layer})
        for name, layer in {"a": "adapted", "t": "head"}.items()
    }
    assert "a: layer adapted; t: layer head" in table(LAYOUTS["geometry"], spread).note


def test_the_best_has_the_direction_of_its_metric_or_none():
    def result(value):
        figures = [figure(f"trained/backbone/{m}", value) for m in ("auroc", "fpr@95", "norm")]
        return TaskResult("ood", tuple(figures), {})

    layout = Layout("t", percent=frozenset({"auroc", "fpr@95"}), lower=frozenset({"fpr@95"}))
    rows = {r.name: r for r in table([layout], {"a": result(0.2), "b": result(0.3)}).rows}
    marked = {name.rsplit(", ", 1)[1]: [c.best for c in row.cells] for name, row in rows.items()}
    assert marked == {"auroc": [False, True], "fpr@95": [True, False], "norm": [False, False]}


def test_what_says_little_is_left_out_of_several_runs(kept):
    made = evaluation_tables({"a": kept, "b": kept}, LAYOUTS)
    views = next(t for t in made if t.title.startswith("The other view"))
    assert not any("199" in row.name for row in views.rows)
    geometry = next(t for t in made if t.title.startswith("Geometry"))
    assert "uniformity (-4 spread, 0 collapsed)" in [row.name for row in geometry.rows]
    assert not any("trained" in row.name for row in geometry.rows)
    assert [t.title for t in made if "abels" in t.title] == [
        "Ranked without labels",
        "Checkpoints ranked without labels: rho with k-NN accuracy",
    ]


def test_titles_lose_what_an_older_file_does_not_say_or_runs_do_not_share():
    assert table(LAYOUTS["knn"], {"": accuracy(k=20)}).title == "k-NN accuracy, % [95 %]; k = 20"
    assert table(LAYOUTS["knn"], {"": accuracy(test_images=None)}).title == "k-NN accuracy, % [95 %]"
    odd = Layout("Among {images:,} of {all[n]}; {x.y} {0}", words={"accuracy": "of {n}"})
    made = table([odd], {"": accuracy(images="many", all=3)})
    assert (made.title, made.columns) == ("Among many of \u2026", ["of \u2026"])
    two = {"a": accuracy(k=20, test_images=7), "b": accuracy(k=10, test_images=7)}
    assert table(LAYOUTS["knn"], two).title == "k-NN accuracy, % [95 %]; 7 test images"
    assert table(LAYOUTS["knn"], two).note == (
        "test images: 7. Not evaluated alike: none is marked as the best. a: k 20; b: k 10"
    )


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"test_images": 28}, {"test_images": 360}),
        ({"split": "80/20, seed 0"}, {"split": "80/20, seed 1"}),
        ({"data": "a"}, {"data": "b"}),
    ],
)
def test_runs_that_were_conditions_other_images_are_not_compared(mine, theirs):
    def result(better, data="", **protocol):
        return TaskResult("knn", accuracy(better=better).figures, protocol, data)

    made = table(LAYOUTS["knn"], {"a": result(0.0, **mine), "b": result(0.1, **theirs)})
    assert not any(cell.best for row in made.rows for cell in row.cells)
    assert "28" not in made.title
    assert "Not evaluated alike" in made.note
    (before,), (after,) = mine.values(), theirs.values()
    assert f"{before}; b: " in made.note
    assert str(after) in made.note
    same = table(LAYOUTS["knn"], {"a": result(0.0, **mine), "b": result(0.1, **mine)})
    assert [cell.best for cell in same.rows[0].cells] == [False, True]
    assert "alike" not in same.note


def test_facts_in_which_runs_differ_are_left_out_of_titles_and_rows(kept):
    def fewer(result, images):
        protocol = {**result.protocol, "images": images, "most": min(images - 1, 8)}
        return TaskResult("geometry", result.figures, protocol, "d")

    runs = {name: fewer(kept["geometry"], n) for name, n in (("a", 5), ("b", 360))}
    made = table(LAYOUTS["geometry"], runs)
    assert made.title == "Geometry of the embeddings of test images [95 %]"
    assert "effective rank: directions in use" in [row.name for row in made.rows]
    assert made.note.endswith("a: test images 5; b: test images 360")


def test_ood_sets_of_different_size_are_not_compared(kept):
    ood = kept["ood"]
    (name,) = ood.protocol["images"]
    more = TaskResult("ood", ood.figures, {**ood.protocol, "images": {name: 1000}}, ood.data)
    made = table(LAYOUTS["ood"], {"a": ood, "b": more})
    assert made.title == "textures:wood against the 200 test images, % [95 %]"
    assert made.note.endswith("a: OOD images 60; b: OOD images 1,000")


def test_a_table_for_each_subset_named_by_the_protocol_or_by_itself():
    figures = [
        figure("trained/method/auroc", 0.7, subset=s, variant="energy {x}") for s in ("far/a", "{near}")
    ]
    result = TaskResult("ood", tuple(figures), {"sets": {"far/a": "far"}, "test_images": 1200})
    first, second = lay_out(LAYOUTS["ood"], {"": result})
    assert first.title == "far against the 1,200 test images, % [95 %]"
    assert second.title == "{near} against the 1,200 test images, % [95 %]"
    assert first.text_rows()[1] == ["the method's own score, energy {x}", "70.0 [68.0, 72.0]"]


@pytest.mark.parametrize(
    ("value", "percent", "expected"),
    [
        (0.7654, True, "76.5"),
        (9.9994, False, "9.999"),
        (80.25, False, "80.2"),
        (12345.4, False, "12,345"),
        (-0.0001, False, "0.000"),
        (-1234.5, False, "-1,234"),
        (math.nan, True, "undefined"),
    ],
)
def test_numbers_have_as_many_digits_as_they_are_worth(value, percent, expected):
    assert number(value, percent=percent) == expected


def test_a_layout_may_name_models_in_its_own_words():
    layout = Layout("t", words={"trained/backbone": "ours", "pixels": "theirs", "trained": "not the layer's"})
    assert [row.name for row in table([layout], {"": accuracy()}).rows] == ["ours", "theirs"]
    geometry = Layout("t", rows=("metric",), columns=("model",), words={"trained": "after"})
    assert table([geometry], {"": accuracy()}).columns == ["after", "raw pixels"]


def test_what_is_undefined_or_has_no_interval_says_so():
    figures = (
        Figure("trained", "head", "lidar", Estimate(math.nan, math.nan, math.nan)),
        Figure("trained", "head", "rankme", Estimate(2.0, math.nan, math.nan)),
        Figure("trained", "head", "zscore", Estimate(12345.0, 12335.0, 12355.0)),
    )
    rows = table([Layout("t")], {"": TaskResult("t", figures, {})}).text_rows()
    assert rows[1] == ["its head", "undefined", "2.000", "12,345 [12,335, 12,355]"]


@pytest.mark.parametrize(
    ("model", "layer", "words"),
    [
        ("trained", "backbone", "trained encoder"),
        ("initial", "head", "initial head"),
        ("untrained", "whitened", "untrained encoder, whitened"),
        ("trained", "last4", "class tokens of its last 4 blocks"),
        ("trained", "last1", "class token of its last block"),
        ("pca", "", "PCA-whitened pixels"),
        ("epoch-3", "backbone", "epoch-3 encoder"),
        ("somebody", "", "somebody"),
    ],
)
def test_models_in_words(model, layer, words):
    assert model_words(model, layer) == words


def test_html_is_escaped_and_shows_itself_in_a_notebook():
    layout = Layout("<b>&", words={"accuracy": "<i>"}, percent=frozenset({"accuracy"}), corner="'")
    run = TaskResult("t", accuracy(better=0.1).figures, {}, data="<script>")
    page = table([layout], {"<1>": accuracy(), "2": run})._repr_html_()
    assert "<script>" not in page
    assert "<h3>&lt;b&gt;&amp;</h3>" in page
    assert '<td class="number"><b>60.0</b> <span class="interval">[58.0, 62.0]</span></td>' in page
    assert '<th class="number">&lt;1&gt;</th>' in page
