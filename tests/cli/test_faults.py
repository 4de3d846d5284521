"""Faults of disks, files, people and numbers, one by one, as docs/reliability.md lists them."""

import os
import pickle
import resource
import shutil
import signal
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from isosphere.atomic import write_json
from isosphere.cli import main
from isosphere.errors import RunError
from isosphere.runs import RunFolder, pack_tensors, read_tensors
from isosphere.training import _state as state

from .conftest import QUICK, Outcome


@pytest.fixture(scope="module")
def pattern(classes, tmp_path_factory):
    """A run of one epoch, to be copied."""
    folder = tmp_path_factory.mktemp("pattern") / "r"
    assert main(["train", str(classes), "--out", str(folder), *QUICK]) == 0
    return folder


@pytest.fixture
def trained(run, pattern):
    """A run of one epoch, ``r`` in the working folder."""
    return RunFolder(shutil.copytree(pattern, "r"))


def weights(folder):
    return {**folder.read_method(), **{f"encoder.{k}": v for k, v in folder.read_encoder()[0].items()}}


def paragraph(done: Outcome, code: int = 1) -> str:
    """The one paragraph of a failed command."""
    assert done.code == code, done.err
    assert done.err.startswith("isosphere: ")
    assert done.err.count("\n") == 1
    return done.err


@pytest.fixture
def small_disk():
    """Files of at most so many bytes, as on a disk that fills."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_keeps_the_checkpoint_and_the_run_goes_on_to_the_same_bits(
    run, trained, small_disk
):
    shutil.copytree("r", "spared")
    before = trained.checkpoint.read_bytes()
    small_disk(200_000)
    said = paragraph(run("train", "--out", "r", "--resume", "--epochs", "3"))
    assert "cannot write r/checkpoints/last.ckpt: File too large. What was there before is unchanged." in said
    assert trained.checkpoint.read_bytes() == before
    assert [p.name for p in trained.checkpoint.parent.iterdir()] == ["last.ckpt"]
    small_disk(resource.RLIM_INFINITY)
    assert run("train", "--out", "r", "--resume").code == 0
    assert run("train", "--out", "spared", "--resume", "--epochs", "3").code == 0
    resumed, whole = weights(trained), weights(RunFolder("spared"))
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


@pytest.mark.parametrize(("size", "file"), [(3_000, "views.png"), (100_000, "checkpoints/last.ckpt")])
def test_a_disk_that_is_full_at_the_start_is_named_by_the_file_that_did_not_fit(
    run, classes, quick, small_disk, size, file
):
    small_disk(size)
    assert f"cannot write r/{file}: File too large" in paragraph(run("train", classes, "--out", "r", *quick))
    small_disk(resource.RLIM_INFINITY)
    again = run("train", classes, "--out", "r", "--resume", *quick)
    assert again.code == 0, again.err
    assert "There is no checkpoint in r yet: starting afresh" in again.out


def test_a_second_interrupt_while_saving_leaves_the_checkpoint_before(run, trained, monkeypatch):
    import isosphere.training._checkpoint as checkpoint

    before, write = trained.checkpoint.read_bytes(), checkpoint.write_bytes

    def twice(path, content):
        os.kill(os.getpid(), signal.SIGINT)  # as the loop saves after an epoch
        os.kill(os.getpid(), signal.SIGINT)
        write(path, content)

    # Tests that a script started in the background have inherited that SIGINT is ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_bytes", twice)
            done = run("train", "--out", "r", "--resume", "--epochs=50", "--set=train.checkpoint_minutes=0")
            said = paragraph(done, 130)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "stopped by Ctrl-C; nothing was left half-written" in said
    assert trained.checkpoint.read_bytes() == before
    assert run("train", "--out", "r", "--resume", "--epochs=2").code == 0


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("code-ran",))


@pytest.mark.parametrize(
    "kind", ["empty", "half", "zeros", "words", "pickle", "overwritten", "other tensors"]
)
def test_a_damaged_checkpoint_is_named_and_nothing_else_is_touched(run, trained, kind):
    whole = trained.checkpoint.read_bytes()
    if kind == "other tensors":
        torch.save([torch.ones(2)], trained.checkpoint)
    else:
        damaged = {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "zeros": bytes(5000),
            "words": b"hello",
            "pickle": pickle.dumps(Evil(), protocol=2),
            "overwritten": whole[:9000] + bytes(1000) + whole[10_000:],
        }
        trained.checkpoint.write_bytes(damaged[kind])
    kept = {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()}
    said = paragraph(run("train", "--out", "r", "--resume", "--epochs=2"))
    assert "the checkpoint r/checkpoints/last.ckpt" in said
    assert "weights_only" not in said
    assert not os.path.exists("code-ran")  # noqa: PTH110
    assert {p: p.read_bytes() for p in trained.path.rglob("*") if p.is_file()} == kept


def test_a_checkpoint_of_other_images_is_refused_and_the_run_stays_as_it_was(run, classes, trained, tmp_path):
    fewer = shutil.copytree(classes, tmp_path / "fewer")
    (fewer / "red" / "1.png").unlink()
    before = trained.config.read_bytes()
    said = paragraph(run("train", fewer, "--out", "r", "--resume", "--epochs=2"))
    assert "was made with images = 60, and now it is 59" in said
    assert trained.config.read_bytes() == before
    assert run("train", "--out", "r", "--resume", "--epochs=2").code == 0


@pytest.mark.parametrize(
    "content", ["", "[1,2", "data: 3\n", "!!python/object/apply:os.mkdir [code-ran]", "\x00"]
)
def test_a_damaged_configuration_is_named(run, trained, content):
    trained.config.write_text(content)
    assert "r/config.yaml" in paragraph(run("train", "--out", "r", "--resume", "--epochs=2"))
    assert not os.path.exists("code-ran")  # noqa: PTH110


def test_a_damaged_table_of_figures_costs_its_damaged_lines(run, trained):
    trained.metrics.write_bytes(b"\xff\xfe\x00" + trained.metrics.read_bytes())
    assert run("train", "--out", "r", "--resume", "--epochs=2").code == 0


def test_another_version_or_number_of_threads_is_said_on_resuming(run, trained):
    found = trained.read_environment()
    threads = found["cpu"]["threads"]
    found["packages"]["torch"], found["cpu"]["threads"] = "2.0.1", threads + 1
    write_json(trained.environment, found)
    done = run("train", "--out", "r", "--resume", "--epochs", 2)
    assert done.code == 0, done.err
    assert f"now torch {version('torch')} (was 2.0.1), {threads} thread" in done.out
    assert f"(was {threads + 1}): an uninterrupted run would have had other bits" in done.out
    again = run("train", "--out", "r", "--resume", "--epochs", 3)
    assert "other bits" not in again.out


def test_a_run_is_trained_by_one_at_a_time(run, trained):
    before = trained.checkpoint.read_bytes()
    with trained.locked():
        for words in (["--resume", "--epochs", 2], ["--resume", "--epochs", 2, "--dry-run"]):
            said = paragraph(run("train", "--out", "r", *words))
            assert f"the run in r is being trained by process {os.getpid()}" in said
            assert "wait for its end, or give another --out." in said
    assert trained.checkpoint.read_bytes() == before
    assert run("train", "--out", "r", "--resume", "--epochs", 2).code == 0
    assert not trained.lock.exists()


def test_a_run_folder_that_is_removed_ends_the_run(run, classes, quick, monkeypatch):
    save = state.save_checkpoint

    def removed(path, **options):
        shutil.rmtree(path.parent)
        save(path, **options)

    monkeypatch.setattr(state, "save_checkpoint", removed)
    said = paragraph(run("train", classes, "--out", "r", *quick))
    assert "cannot write r/checkpoints/last.ckpt: No such file or directory" in said


@pytest.mark.slow
def test_images_that_are_removed_end_the_run_and_it_goes_on_when_they_are_back(
    run, classes, quick, tmp_path, monkeypatch
):
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(classes, tmp_path / "lent")
    assert run("train", folder, "--out", "r", *quick, "--set=data.workers=0").code == 0
    make_plan = state.make_plan

    def removed(*arguments):
        shutil.rmtree(folder)
        return make_plan(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(state, "make_plan", removed)
        said = paragraph(run("train", "--out", "r", "--resume", "--epochs=2"))
    assert "60 images cannot be read: " in said
    assert "(no such file or directory)" in said
    shutil.copytree(classes, folder)
    assert run("train", "--out", "r", "--resume").code == 0


def test_numbers_that_leave_the_range_stop_the_run_with_its_last_good_checkpoint(run, trained, monkeypatch):
    import isosphere.training._optimizer as optimizer

    before, set_rate = trained.checkpoint.read_bytes(), optimizer.set_learning_rate

    def absurd(groups, *rates):
        set_rate(groups, float("inf"))

    with monkeypatch.context() as patch:
        patch.setattr(state, "set_learning_rate", absurd)
        said = paragraph(run("train", "--out", "r", "--resume", "--epochs=5"))
    assert "not finite" in said
    assert "The last good checkpoint, r/checkpoints/last.ckpt, is kept." in said
    assert "Add --resume and a lower --set optim.learning_rate=" in said
    assert trained.checkpoint.read_bytes() == before
    assert run("train", "--out", "r", "--resume", "--set=optim.learning_rate=1e-4").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size=61"], "a batch of 61 is more than the 60 readable images"),
        (["--batch-size=-3"], "train.batch_size: got -3"),
        (["--batch-size=99999999999999999999"], "is more than the 60 readable images"),
        (["--image-size=7"], "data.image_size: got 7"),
        (["--image-size=99999"], "data.image_size: got 99999"),
        (["--epochs=-1"], "train.epochs: got -1"),
        (["--minutes=nan"], "train.minutes: got nan"),
        (["--seed=-1"], "train.seed: got -1"),
        (["--set=optim.learning_rate=nan"], "optim.learning_rate: got 'nan'"),
        (["--set=model.dim=0"], "model.dim: got 0"),
        (["--set=method.weight=2"], "got weight=2.0, expected a number strictly between 0 and 1"),
        (["--set=views.rotation=1e9"], "rotation"),
        (["--set=data.workers=-1"], "data.workers: got -1"),
        (["--set=data.held_out=60"], "data.held_out = 60 leaves fewer than 2 of 60 images to train on"),
        (["--set=data.epoch_images=61"], "an epoch of 61 images is asked for, and "),
        (["--init=NOTE"], "could not be read as weights: it is damaged"),
        (["--config=NOTE"], "--config "),
        (["--out=NOTE"], "is a file, and a run is a folder"),
        (["--out=NOTE/run"], "which is a file: give another --out"),
    ],
)
def test_absurd_values_are_refused_and_leave_nothing(run, classes, tmp_path, words, said):
    note = tmp_path / "note.pth"
    note.write_text("words")
    words = [word.replace("NOTE", str(note)) for word in words]
    out = [] if any(word.startswith("--out") for word in words) else ["--out=r"]
    done = run("train", classes, *out, *words)
    assert done.code in (1, 2)
    assert said in paragraph(done, done.code)
    assert "weights_only" not in done.err
    assert not list((tmp_path / "work").iterdir())


def test_images_of_every_wrong_kind(run, quick, tmp_path):
    folder = tmp_path / "wrong"
    folder.mkdir()
    for name, content in (("a.png", b"no picture"), ("b.jpg", b"")):
        (folder / name).write_bytes(content)
    done = run("train", folder, "--out", "r", *quick)
    assert "none of 2 images tried in wrong can be read (a.png: not an image" in paragraph(done, 2)
    np.savez(tmp_path / "evil.npz", x_train=np.array([Evil()], dtype=object))
    done = run("train", tmp_path / "evil.npz", "--out", "r", *quick)
    assert "holds pickled objects, which can run code" in paragraph(done, 2)
    assert not os.path.exists("code-ran")  # noqa: PTH110
    assert not os.path.exists("r")  # noqa: PTH110


@pytest.mark.slow
def test_names_in_any_script_and_links_in_circles(run, classes, quick, tmp_path):
    folder = shutil.copytree(classes, tmp_path / "ünïcode Bilder" / "猫 and 犬")
    (folder / "up").symlink_to("..")
    (folder / "me.png").symlink_to("me.png")
    done = run("train", folder, "--out", "läufe/erster 1", *quick)
    assert done.code == 0, done.err
    assert (
        "1 of 61 files cannot be used and is skipped: me.png (too many levels of symbolic links)" in done.out
    )
    listed = next(tmp_path.rglob("left_out.txt")).read_text(encoding="utf-8")
    assert listed == "me.png\ttoo many levels of symbolic links\n"
    judged = run("evaluate", "läufe/erster 1", folder, "--tasks=knn")
    assert judged.code == 0, judged.err


# --- an evaluation whose figures cannot be kept ----------------------------------------------------------------------


def test_an_evaluation_on_a_full_disk_prints_its_figures_first(run, trained, classes, small_disk):
    small_disk(500)
    done = run("evaluate", "r", classes, "--tasks", "knn,linear")
    small_disk(resource.RLIM_INFINITY)
    said = paragraph(done)
    assert "The figures could not be kept: cannot write r/evaluation.json: File too large" in said
    for title in ("k-NN accuracy", "Linear probe accuracy"):
        assert title in done.out
    assert "r/evaluation.json" not in done.out
    assert not trained.evaluation.exists()
    if find_spec("matplotlib") is not None:
        assert "neighbours.png is not drawn: cannot write r/neighbours.png: File too large" in done.out


def test_a_disk_that_has_room_again_gets_all_figures(run, trained, classes, monkeypatch):
    """The first task meets a full disk, the second does not."""
    real, calls = RunFolder.update_evaluation, []

    def full_at_first(folder, tasks):
        calls.append(list(tasks))
        if len(calls) == 1:
            raise RunError("cannot write r/evaluation.json: No space left on device.")
        return real(folder, tasks)

    monkeypatch.setattr(RunFolder, "update_evaluation", full_at_first)
    done = run("evaluate", "r", classes, "--tasks", "knn,linear")
    assert (done.code, done.err) == (0, "")
    assert calls == [["knn"], ["knn", "linear"]]
    assert set(trained.read_evaluation()) == {"knn", "linear"}


def test_an_evaluation_in_a_folder_that_may_not_be_written(run, trained, classes, monkeypatch):
    monkeypatch.setattr(RunFolder, "writable", False)  # an administrator may write anywhere
    done = run("evaluate", "r", classes, "--tasks", "knn")
    assert done.code == 0
    assert done.err == ""
    assert done.out.count("r cannot be written to: the figures are not kept.") == 1
    assert "k-NN accuracy" in done.out
    assert not trained.evaluation.exists()
    assert not (trained.path / "neighbours.png").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": "isosphere-evaluation-7", "knn": {"runs": []}}', "is of another version of isosphere"),
        ('{"knn": {"runs": [1, 2]}}', "is damaged"),
        ("[1, 2]", "is damaged"),
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_a_file_of_figures_that_is_not_understood_is_not_added_to(
    run, trained, classes, monkeypatch, text, said
):
    monkeypatch.setattr("isosphere.workflows._evaluate.EvaluationContext", None)  # before any work
    trained.evaluation.write_text(text)
    assert said in paragraph(run("evaluate", "r", classes, "--tasks", "knn"))
    assert trained.evaluation.read_text() == text


def test_a_run_handed_on_with_other_features_gets_its_own_figures(run, trained, classes):
    """Noise in place of the features, its digest made to fit: every figure is as before."""
    words = ("evaluate", "r", classes, "--tasks", "knn,retrieval")
    assert run(*words).code == 0
    first = trained.evaluation.read_text()
    for file in (trained.path / "features").iterdir():
        tensors, about = read_tensors(file)
        noise = {n: torch.randn_like(x) if x.is_floating_point() else x for n, x in tensors.items()}
        file.write_bytes(pack_tensors(noise, about))
    done = run(*words)
    assert done.code == 0
    assert trained.evaluation.read_text() == first
    assert "files of kept features did not hold what this encoder computes" in done.out
    assert "did not hold" not in run(*words).out


@pytest.mark.parametrize("out", ["s.png", "s.html", "note/s.png"])
def test_figures_of_a_search_are_printed_before_its_picture_fails(run, trained, classes, small_disk, out):
    if out.endswith("png"):
        pytest.importorskip("matplotlib")
    query = classes / "red" / "1.png"
    assert run("search", "r", query, "--in", classes).code == 0
    (trained.path.parent / "note").write_text("a file")
    small_disk(1_000)
    done = run("search", "r", query, "--in", classes, "--out", out)
    assert "red/1.png" in done.out
    said = done.err
    assert done.code == (1 if out.startswith("s.") else 2)
    assert ("cannot write s." in said and "File too large" in said) or "cannot make the folder note" in said
    assert "Traceback" not in said
    assert not [p.name for p in trained.path.parent.iterdir() if p.name.startswith((".", "s."))]


def test_files_that_do_not_fit_are_named_and_leave_nothing(run, trained, classes, small_disk):
    commands = {
        "d.html": ["dedup", "r", classes, "--threshold=0.5"],
        "e.npz": ["embed", "r", classes],
        "e.csv": ["embed", "r", classes],
        "x.safetensors": ["export", "r", "--format=safetensors"],
        "v.png": ["views", classes],
    }
    assert run("dedup", "r", classes).code == 0  # the index is there
    small_disk(1_000)
    for out, words in commands.items():
        done = run(*words, "--out", out)
        assert (
            f"isosphere: cannot write {out}: File too large. What was there before is unchanged." in done.err
        )
        assert done.code == 1
        assert ("repeat" in done.out) == (out == "d.html")
    assert sorted(p.name for p in trained.path.parent.iterdir()) == ["r"]


@pytest.mark.parametrize(
    "words",
    [
        ["embed", "r", "PICS", "--out", "x" * 300 + ".npz"],
        ["search", "r", "PICS/red/1.png", "--in", "PICS", "--out", "x" * 300 + ".png"],
        ["export", "r", "--format=safetensors", "--out", "x" * 300 + ".safetensors"],
        ["embed", "r", "~nosuchuser/pics", "--out", "~nosuchuser.npz"],
        ["search", "r", "~nosuchuser/1.png", "--in", "PICS"],
        ["search", "r", "PICS/red/1.png", "--in", "~nosuchuser"],
        ["embed", "r", "$HOME/$(touch code-ran)", "--out", "e.npz"],
    ],
)
def test_names_that_lead_nowhere_are_an_error_in_words(run, trained, classes, words):
    done = run(*(word.replace("PICS", str(classes)) for word in words))
    assert done.code in (1, 2)
    assert done.err.startswith("isosphere: ")
    assert sorted(p.name for p in trained.path.parent.iterdir()) == ["r"]


def test_dollars_in_names_are_drawn_as_they_are(run, trained, classes, tmp_path):
    pytest.importorskip("matplotlib")
    folder = shutil.copytree(classes, tmp_path / r"$\frac{$")
    trained.path.rename(r"$\bad$")
    query = folder / r"red" / r"$\sqrt{$.png"
    (folder / "red" / "1.png").rename(query)
    assert run("search", r"$\bad$", query, "--in", folder, "--out", "s.png").code == 0
    done = run("evaluate", r"$\bad$", folder, "--tasks=knn", "--no-baselines")
    assert done.code == 0, done.err
    assert "neighbours.png" in done.out
    assert run("report", r"$\bad$", "--data", folder).code == 0


def test_memory_that_runs_out_is_a_sentence(run, classes, monkeypatch):
    def hungry(*given, **named):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"
        )

    monkeypatch.setattr("isosphere.workflows.draw_views", hungry)
    done = run("views", classes)
    assert done.code == 1
    assert done.err.startswith("isosphere: memory has run out; nothing was left half-written.")
