"""``isosphere train`` as it is typed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from isosphere.runs import RunFolder, read_metrics


def test_a_run_from_a_folder(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 0, done.err
    assert done.err == ""
    assert "60 images of 16 px" in done.out
    assert "expansion ratio" not in done.out
    assert "epoch 1/1  loss" in done.out
    assert "Trained 1 epoch (7 steps)" in done.out
    folder = RunFolder.open("r")
    assert {p.name for p in folder.path.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "encoder.json",
        "encoder.safetensors",
        "environment.json",
        "images.json",
        "method.safetensors",
        "metrics.csv",
        "train.log",
        "wccn.safetensors",
        "views.png",
    }
    assert folder.read_config()["train"]["epochs"] == 1
    assert "expansion ratio: r* =" in folder.log.read_text()
    assert not any("\x1b" in text for text in (done.out, folder.log.read_text()))


def test_the_commands_that_are_offered_can_be_typed(run, classes, quick):
    done = run("train", classes, "--out", "a run", *quick)
    offered = offers(done.out)
    assert "Give --epochs 143 or more: most folders need 1,000 steps, any method needs about 100" in done.out
    assert "Train longer (--epochs 143): this run has 7 steps, and kl-vmf needs about 100" in done.out
    assert "judge it" not in offered
    judged = run("evaluate", "a run", classes, "--tasks", "retrieval")
    assert offered["go on"].strip() in " ".join(
        judged.out.split()
    )  # the training and its evaluation advise the same
    *typed, epochs = shlex.split(offered["go on"])[1:]
    assert epochs == "143"  # of 7 steps: 1,000 in all
    longer = run(*typed, "15")
    assert longer.code == 0, longer.err
    assert "Resuming after step 7" in longer.out
    assert "train.epochs was 1 and is 15" in longer.out
    assert "Trained 15 epochs (105 steps)" in longer.out
    assert "Train longer" not in longer.out
    offered = offers(longer.out)
    assert shlex.split(offered["judge it"])[:3] == ["isosphere", "evaluate", "a run"]
    assert shlex.split(offered["go on"])[-2:] == ["--epochs", "143"]


def offers(out):
    """Commands by what is written before them."""
    lines = [line.split("  ", 1) for line in out.splitlines() if "  isosphere " in line]
    return {name.strip(): command for name, command in lines}


def test_dry_run_says_all_and_writes_nothing(run, classes, quick, tmp_path):
    done = run("train", classes, "--dry-run", *quick)
    assert done.code == 0, done.err
    start, _, _ = done.out.partition("\n\ndata:\n")
    names = [line.split()[0] for line in start.splitlines() if not line.startswith("Give")]
    assert names[:4] == ["data", "network", "method", "training"]
    assert len(names) < 8
    told = run("train", classes, "--dry-run", "--verbose", *quick).out
    assert "expansion ratio" in told
    assert "measured" in told or "float32 on the CPU" in told
    config = yaml.safe_load(done.out[done.out.index("data:\n") :])
    assert config["data"]["image_size"] == 16
    assert config["train"]["batch_size"] == 8
    assert run("train", classes, "--out", "r", "--dry-run", *quick).code == 0
    assert not list((tmp_path / "work").iterdir())


def test_a_preset_trains_and_own_flags_win(run, classes, quick):
    done = run("train", classes, "--out", "r", "--preset", "cifar-small", *quick)
    assert done.code == 0, done.err
    config = RunFolder.open("r").read_config()
    assert config["data"]["image_size"] == 32
    assert (config["model"]["encoder"], config["model"]["dim"], config["train"]["epochs"]) == (
        "small-conv",
        16,
        1,
    )
    again = run("train", "--out", "r", "--resume", "--preset", "small")
    assert again.code == 2
    assert "--preset small is for the start of a run" in again.err


@pytest.mark.parametrize("data", [["/no/such/folder"], []])
def test_a_dry_run_of_a_preset_needs_no_images(run, data, tmp_path):
    done = run("train", *data, "--preset", "stl10-byol", "--dry-run", "--batch-size", 64)
    assert done.code == 0, done.err
    assert "resolved without images" in done.out
    config = yaml.safe_load(done.out[done.out.index("\ndata:\n") :])
    assert config["optim"]["name"] == "lars"
    assert config["train"]["batch_size"] == 64
    assert not list((tmp_path / "work").iterdir())
    unknown = run("train", *data, "--preset", "stl10-byool", "--dry-run")
    assert unknown.code == 2
    assert "Did you mean 'stl10-byol'" in unknown.err


def test_a_config_file_made_by_dry_run_gives_the_same_run(run, classes, quick, tmp_path):
    shown = run("train", classes, "--dry-run", *quick).out
    (tmp_path / "c.yaml").write_text(shown[shown.index("data:\n") :])
    assert run("train", "--config", tmp_path / "c.yaml", "--out", "a").code == 0
    assert run("train", classes, "--out", "b", *quick).code == 0
    first, second = (RunFolder(name).read_encoder()[0] for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_zero_epochs_save_the_untrained_encoder(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick[1:], "--epochs", 0)
    assert done.code == 0, done.err
    assert "untrained encoder of seed 0" in done.out
    assert RunFolder.open("r").read_encoder()[1]["step"] == 0


def test_minutes(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick[1:], "--minutes", 0.02)
    assert done.code == 0, done.err
    assert "0.02 minutes" in done.out
    assert "Train longer (--minutes" in done.out
    assert re.search(r"go on +isosphere train .* --resume --minutes \d+$", done.out, re.MULTILINE)
    assert "judge it" not in done.out
    assert float(read_metrics(RunFolder("r").metrics)[-1]["seconds"]) < 6


def test_no_time_for_a_step_is_said(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick[1:], "--minutes", 1e-6)
    assert done.code == 0, done.err
    assert "this run has 0 steps" in done.out
    assert "judge it" not in done.out


def test_resume_without_a_run_starts_afresh_and_says_so(run, classes, quick):
    done = run("train", classes, "--out", "r", "--resume", *quick)
    assert done.code == 0
    assert "There is no run in r yet: starting afresh." in done.out
    RunFolder("r").checkpoint.unlink()
    refused = run("train", classes, "--out", "r", "--resume", *quick)
    assert refused.code == 2
    assert "holds a trained encoder and no checkpoint" in refused.err
    RunFolder("r").encoder.unlink()
    done = run("train", classes, "--out", "r", "--resume", *quick)
    assert done.code == 0
    assert "There is no checkpoint in r yet: starting afresh." in done.out


def test_resume_goes_on_with_the_settings_of_the_run(run, classes, quick):
    run("train", classes, "--out", "r", *quick, "--seed", 3)
    done = run("train", "--out", "r", "--resume", "--epochs", 2)
    assert done.code == 0, done.err
    assert RunFolder("r").read_config()["train"]["seed"] == 3
    assert RunFolder("r").read_config()["train"]["epochs"] == 2
    for words, said in (
        (["--epochs", 1], "has been trained for 2 epochs, and --epochs 1 asks for less: what is learned"),
        (["--set", "train.epochs=null", "--minutes", 1e-6], "s, and --minutes 1e-06 asks for less"),
    ):
        less = run("train", "--out", "r", "--resume", *words)
        assert less.code == 2
        assert said in less.err
    assert RunFolder("r").read_config()["train"]["epochs"] == 2


def test_a_run_that_is_at_its_end_is_left_as_it_is(run, classes, quick):
    assert run("train", classes, "--out", "r", *quick).code == 0
    folder = RunFolder("r")
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    for words in ((), ("--epochs", 1)):
        done = run("train", "--out", "r", "--resume", *words)
        assert (done.code, done.err) == (0, "")
        assert done.out == (
            f"r is already trained for 1 epoch; for more: isosphere train {classes} --out r --resume --epochs 2\n"
        )
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    folder.wccn.unlink()  # what a training that was killed at its end had not written yet
    assert run("train", "--out", "r", "--resume").code == 0
    assert folder.wccn.exists()


def test_resume_refuses_what_would_be_another_run(run, classes, quick):
    run("train", classes, "--out", "r", *quick)
    done = run("train", classes, "--out", "r", "--resume", "--encoder", "resnet18")
    assert done.code == 2
    assert "model.encoder = small-conv, and now resnet18" in done.err
    assert "another --out" in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_begun_on_a_gpu_says_how_to_go_on_without(run, classes, quick):
    run("train", classes, "--out", "r", *quick)
    config = RunFolder("r").read_config()
    config["train"] |= {"device": "cuda", "precision": "fp16"}
    RunFolder("r").write_config(config)
    assert run("train", "--out", "r", "--resume").code == 0  # nothing is left to train
    done = run("train", "--out", "r", "--resume", "--epochs", 2)
    assert done.code == 2
    text = " ".join(done.err.split())
    assert (
        "was begun with train.device = cuda and train.precision = fp16, and there is not such a device"
        in text
    )
    given = re.findall(r"--set [\w.=]+\w", text)
    assert given == ["--set train.device=auto", "--set train.precision=float32"]
    done = run("train", "--out", "r", "--resume", "--epochs", 2, *" ".join(given).split())
    assert done.code == 0, done.err
    assert "train.device was cuda and is auto" in done.out
    assert "an uninterrupted run would have had other bits" in done.out


def test_an_encoder_can_start_from_the_weights_of_another_run(run, classes, quick):
    run("train", classes, "--out", "first", *quick)
    done = run(
        "train", classes, "--out", "second", *quick[1:], "--epochs=0", "--init", "first/encoder.safetensors"
    )
    assert done.code == 0, done.err
    first, second = (RunFolder(name).read_encoder()[0] for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_profile_prints_shares(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick[1:], "--epochs=2", "--profile")
    assert done.code == 0, done.err
    for word in ("views", "network", "loss", "optimiser", "other", "Outside network, optimiser and views"):
        assert word in done.out
    done = run("train", classes, "--out", "short", *quick[1:], "--epochs=1", "--batch-size", 20, "--profile")
    assert "No profile: the first 5 steps warm up" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--out", "r"], "no file or folder nowhere"),
        (["DATA"], "--out is missing"),
        (["--out", "r"], "no data"),
        (["EMPTY", "--out", "r"], "holds no images"),
        (["textures:wod", "--out", "r"], "'textures:wood'"),
        (["DATA", "--out", "r", "--batch-size", "1"], "batch of 1"),
        (["DATA", "--out", "r", "--batch-size", "500"], "60 readable images"),
        (["DATA", "--out", "r", "--method", "sphere-jep"], "'sphere-jepa'"),
        (["DATA", "--out", "r", "--encoder", "smal-conv"], "'small-conv'"),
        (["DATA", "--out", "r", "--set", "optim.lerning_rate=1"], "'optim.learning_rate'"),
        (["DATA", "--out", "r", "--epochs", "1", "--minutes", "1"], "one length"),
        (["DATA", "--out", "r", "--epochs", "many"], "--epochs"),
        (["DATA", "--out", "r", "--epocs", "3"], "--epochs"),
        (["DATA", "--out", "r", "--config", "absent.yaml"], "no such file"),
        (["DATA", "--out", "r", "--init", "absent.pth"], "absent.pth"),
        (["DATA", "more", "--out", "r"], "There is no file or folder more"),
    ],
)
def test_what_is_refused_costs_a_paragraph_and_leaves_no_folder(run, classes, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    places = {"DATA": classes, "EMPTY": tmp_path / "empty"}
    done = run("train", *(places.get(word, word) for word in words))
    assert done.code == 2
    assert done.err.startswith("isosphere: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "work").iterdir())


def test_an_occupied_folder_is_left_alone(run, classes, quick, tmp_path):
    run("train", classes, "--out", "r", *quick)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work" / "r").iterdir()}
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 2
    assert "--resume" in done.err
    assert "--out r-2" in done.err
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work" / "r").iterdir()} == before


def test_unreadable_images_are_skipped_or_refused(run, classes, quick, tmp_path):
    import shutil

    folder = shutil.copytree(classes, tmp_path / "copy")
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    done = run("train", folder, "--out", "r", *quick)
    assert done.code == 0
    assert "1 of 61 files cannot be used and is skipped" in done.out
    assert "broken.png" in done.out
    done = run("train", folder, "--out", "s", "--strict", *quick)
    assert done.code == 1
    assert "broken.png" in done.err
    assert not (tmp_path / "work" / "s").exists()


def test_an_interrupt_while_images_are_read_is_one_sentence(run, classes, quick, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("isosphere.workflows._training.prepare", interrupted)
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 130
    assert done.err.count("\n") <= 2
    assert "stopped by Ctrl-C" in done.err


def start(classes, words, folder):
    program = "import sys; from isosphere.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", str(classes), "--out", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )


def wait_for(path, child, seconds=120):
    limit = time.perf_counter() + seconds
    while not path.exists() and child.poll() is None and time.perf_counter() < limit:
        time.sleep(0.01)


def test_runs_stopped_from_outside_end_with_the_same_bits(run, classes, quick, tmp_path):
    """Real processes, real signals; then --resume, compared with a run that was never stopped."""
    words = [*quick[1:], "--epochs=12", "--set=train.checkpoint_minutes=0"]
    children = {
        number: start(classes, words, tmp_path / number.name) for number in (signal.SIGKILL, signal.SIGTERM)
    }
    for number, child in children.items():
        wait_for(RunFolder(tmp_path / number.name).checkpoint, child)
        child.send_signal(number)
    assert run("train", classes, "--out", tmp_path / "whole", *words).code == 0
    for number, child in children.items():
        out, err = child.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert child.returncode == -signal.SIGKILL
        else:
            assert child.returncode == 143, err
            assert "Stopped by SIGTERM" in out
            assert "everything is saved. Go on with: isosphere train" in out
            assert err == ""
        assert run("train", "--out", tmp_path / number.name, "--resume").code == 0
        for read in (RunFolder.read_method, lambda folder: folder.read_encoder()[0]):
            whole, resumed = (read(RunFolder(tmp_path / name)) for name in ("whole", number.name))
            assert whole.keys() == resumed.keys()
            assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_labels_are_watched_where_there_are_any(run, classes, quick, tmp_path):
    """k-NN at its period and at the end, and the same weights as without; never a word of it without labels."""
    done = run("train", classes, "--out", "r", *quick, "--epochs", "3", "-v", "--set", "train.knn_epochs=2")
    assert done.code == 0, done.err
    assert "every 2 epochs and at the end" in done.out
    rows = [row for row in read_metrics(RunFolder.open("r").metrics) if row["cosine"]]
    assert [bool(row["knn"]) for row in rows] == [False, True, True]
    assert all(0 <= float(row["knn"]) <= 1 for row in rows if row["knn"])
    alone = run("train", classes, "--out", "a", *quick, "--epochs", "3", "--set", "train.knn_epochs=0")
    assert "k-NN" not in alone.out
    ours, theirs = (RunFolder.open(name).encoder.read_bytes() for name in ("r", "a"))
    assert ours == theirs


def test_weights_and_biases_that_are_not_installed(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick, "--set", "train.wandb=project")
    if done.code == 0:
        pytest.skip("wandb is installed")
    assert done.code == 2
    assert "pip install wandb" in done.err.replace("\n", " ")
