"""Two processes that torchrun starts train as one, into one folder, and judge as one."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from isosphere.cli import main
from isosphere.runs import RunFolder, read_metrics

WORDS = ["digits", "--method", "byol", "--epochs", "2", "--batch-size", "64"]
KEYS = [
    "data.limit=200",
    "optim.name=sgd",  # AdamW turns rounding into steps of full length, and long steps of a young BYOL amplify it
    "optim.learning_rate=0.001",
    "train.precision=float32",
    "train.device=cpu",
    "train.tensorboard=false",
    "model.dim=8",
    "model.hidden=64",
]
START = "import sys; from isosphere.cli import main; sys.exit(main())"


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, monkeypatch):
    """Weights, teacher and running statistics agree; the first process alone speaks; a resumed run goes on."""
    settings = [word for key in KEYS for word in ("--set", key)]
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WORDS, "--out", "one", *settings]) == 0
    (tmp_path / "start.py").write_text(START)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "start.py",
    ]
    command = [*launch, "train", *WORDS, "--out", "two", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 2 epochs") == 1
    assert "batch norm over all of them" in done.stdout
    one, two = RunFolder.open("one"), RunFolder.open("two")
    for first, second in ((one.encoder, two.encoder), (one.method, two.method)):
        ours, theirs = load_file(first), load_file(second)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=1e-3, msg=key)
    rows = [[float(row["total"]) for row in read_metrics(folder.metrics)] for folder in (one, two)]
    assert rows[1] == pytest.approx(rows[0], rel=1e-3)
    again = subprocess.run(
        [*command, "--resume", "--epochs", "3"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert "Resuming after step 6" in again.stdout


@pytest.mark.slow
def test_two_processes_judge_as_one(tmp_path, monkeypatch):
    """The same evaluation.json to the byte, written and spoken once; nothing is computed the second time; errors
    and refusals end all of them.
    """
    monkeypatch.chdir(tmp_path)
    words = ["--set", "train.device=cpu", "--set", "train.tensorboard=false", "--set", "model.dim=8"]
    assert main(["train", *WORDS[:1], "--out", "one", "--epochs", "1", *words]) == 0
    shutil.copytree("one", "two")
    (tmp_path / "start.py").write_text(START)

    def together(*words):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return subprocess.run(
            [*command, "start.py", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
        )

    torch.set_num_threads(1)
    asked = ["digits", "--limit", "300", "--tasks", "knn,retrieval,ood", "--ood", "textures:wood"]
    assert main(["evaluate", "one", *asked, "--no-cache"]) == 0
    done = together("evaluate", "two", *asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("k-NN accuracy") == 1
    first = (tmp_path / "one" / "evaluation.json").read_bytes()
    assert (tmp_path / "two" / "evaluation.json").read_bytes() == first
    kept = {file: file.stat().st_ctime_ns for file in (tmp_path / "two" / "features").iterdir()}
    (tmp_path / "two" / "evaluation.json").unlink()
    assert together("evaluate", "two", *asked).returncode == 0
    assert (tmp_path / "two" / "evaluation.json").read_bytes() == first
    assert set((tmp_path / "two" / "features").iterdir()) == set(kept)
    refused = together("evaluate", "two", "digits", "--limit", "300", "--tasks", "ood")
    assert refused.returncode != 0
    assert refused.stderr.count("needs images of another kind") == 1
    assert "works in one process" in together("embed", "two", "digits", "--out", "e.npz").stderr
