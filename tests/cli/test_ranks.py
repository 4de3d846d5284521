"""Two processes that torchrun starts train as one, into one folder, and judge as one."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from isosphere.cli import main
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import read_position

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
ISOSPHERE = [sys.executable, "-m", "isosphere"]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "keys"),
    [("torchrun", []), ("--devices", []), ("--devices", ["train.micro_batch=32"])],
    ids=["torchrun", "devices", "devices in pieces"],
)
def test_two_processes_train_as_one(tmp_path, monkeypatch, launcher, keys):
    """Weights, teacher and running statistics agree to 1e-3; the first process alone speaks; a resumed run goes on."""
    settings = [word for key in [*KEYS, *keys] for word in ("--set", key)]
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WORDS, "--out", "one", *settings]) == 0
    if launcher == "torchrun":
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launch, "-m", "isosphere", "train", *WORDS, "--out", "two", *settings]
    else:
        command = [*ISOSPHERE, "train", *WORDS, "--out", "two", *settings, "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 2 epochs") == 1
    assert "2 processes" in done.stdout
    one, two = RunFolder.open("one"), RunFolder.open("two")
    for first, second in ((one.encoder, two.encoder), (one.method, two.method)):
        ours, theirs = load_file(first), load_file(second)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=1e-3, msg=key)
    rows = [[float(row["total"]) for row in read_metrics(folder.metrics)] for folder in (one, two)]
    assert rows[1] == pytest.approx(rows[0], rel=1e-3)
    again = subprocess.run(
        [*command, "--resume", "--epochs", "3"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
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


def ranks_of(launcher: int) -> dict[str, int]:
    """The processes that a launcher has started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            variables = (folder / "environ").read_text().split("\0")
        except OSError:
            continue
        if int(parent) == launcher:
            found |= {item[5:]: int(folder.name) for item in variables if item.startswith("RANK=")}
    return found


def listening(pids: set[int]) -> set[str]:
    """Addresses on which processes accept connections from anywhere, as Linux writes them."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(handle))  # noqa: PTH115
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                found.add(local.split(":")[0])
    return found


def wait_for(file: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert file.exists()


def begun(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """A command that goes on in a process of its own."""
    return subprocess.Popen(
        [*ISOSPHERE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=folder,
    )


LOOPBACK = {"0100007F", "0" * 24 + "01000000"}


@pytest.fixture
def endless(tmp_path):
    """Two processes in the middle of a run that has written a checkpoint."""
    keys = [*KEYS, "train.checkpoint_minutes=0", "train.timeout_minutes=0.1"]
    settings = [word for key in keys for word in ("--set", key)]
    words = ["train", *WORDS, "--epochs", "5000", "--out", "run", *settings, "--devices", "2"]
    with begun(words, tmp_path) as started:
        wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
        yield started
        if started.poll() is None:
            started.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_dies_once_is_started_again_to_the_same_bits(tmp_path):
    """Killed in the middle of the run, named, all go on from the last checkpoint: as if nothing had happened."""
    keys = [*KEYS, "train.checkpoint_minutes=0"]
    settings = [word for key in keys for word in ("--set", key)]
    words = ["train", *WORDS, "--epochs", "60", *settings, "--devices", "2", "--max-restarts", "1"]
    whole = [*ISOSPHERE, *words, "--out", "whole"]
    subprocess.run(whole, check=True, capture_output=True, env=environment(), cwd=tmp_path)
    with begun([*words, "--out", "broken"], tmp_path) as started:
        wait_for(tmp_path / "broken" / "checkpoints" / "last.ckpt")
        os.kill(ranks_of(started.pid)["1"], signal.SIGKILL)
        out, said = started.communicate(timeout=240)
    assert started.returncode == 0, said
    said = " ".join(said.split())
    how = "All start again, from the last checkpoint if there is one: restart 1 of 1."
    assert f"Process 1 of 2 was ended by SIGKILL. {how}" in said
    assert "Start all of them again" not in said
    assert "Resuming after step" in out
    for name in ("encoder.safetensors", "method.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_dies_each_time_ends_the_run(tmp_path):
    """Once more than --max-restarts, whatever it has come to: a sentence, and no process is left."""
    settings = [word for key in KEYS for word in ("--set", key)]
    words = ["train", *WORDS, "--out", "run", *settings, "--devices", "2", "--max-restarts", "1"]
    with begun(words, tmp_path) as started:
        killed: set[int] = set()
        until = time.monotonic() + 120
        while len(killed) < 2 and time.monotonic() < until:
            found = ranks_of(started.pid)
            if "1" in found and found["1"] not in killed:
                killed.add(found["1"])
                os.kill(found["1"], signal.SIGKILL)
            time.sleep(0.1)
        _, said = started.communicate(timeout=120)
    assert started.returncode == 1
    said = " ".join(said.split())
    assert said.count("restart 1 of 1") == 1
    assert (
        said.count("Process 1 of 2 was ended by SIGKILL, after 1 restart; the others have been ended.") == 1
    )
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in killed)


def test_a_wrong_use_is_not_started_again(tmp_path):
    """One process alone can be started again as well; what it refuses it would refuse each time."""
    (tmp_path / "pictures").mkdir()
    words = ["train", "pictures", "--out", "run", "--max-restarts", "3"]
    done = subprocess.run(
        [*ISOSPHERE, *words], capture_output=True, text=True, env=environment(), cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.count("isosphere: ") == 1
    assert "restart" not in done.stderr


def resumed(tmp_path):
    epochs = read_position(RunFolder(tmp_path / "run").checkpoint).epoch + 1
    command = [*ISOSPHERE, "train", WORDS[0], "--out", "run", "--resume", "--epochs", str(epochs)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "within"), [(signal.SIGKILL, 25), (signal.SIGSTOP, 45)], ids=["dead", "hanging"]
)
def test_a_lost_process_ends_the_others(endless, tmp_path, number, within):
    """Killed: noticed at once. Stopped: after train.timeout_minutes, here 6 s. The checkpoint stays good."""
    ranks = ranks_of(endless.pid)
    assert set(ranks) == {"0", "1"}
    start = time.monotonic()
    os.kill(ranks["1"], number)
    _, said = endless.communicate(timeout=120)
    assert time.monotonic() - start < within
    assert endless.returncode == 1
    assert "another process of this run is gone, or has not answered for 0.1 minutes" in said
    assert "last.ckpt, is kept" in said
    assert ("Process 1 of 2 was ended by SIGKILL" in said) is (number == signal.SIGKILL)
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks.values())
    torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    again = resumed(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Resuming after step" in again.stdout


@pytest.mark.slow
def test_sigterm_is_handed_on_and_all_is_saved(endless):
    """And until then nobody else could have joined them."""
    if sys.platform == "linux":
        assert listening({endless.pid, *ranks_of(endless.pid).values()}) <= LOOPBACK
    endless.terminate()
    out, said = endless.communicate(timeout=60)
    assert endless.returncode in (143, 1)  # of the first to end, which another may have told to stop
    assert "Stopped by SIGTERM" in out
    assert "everything is saved" in out
    assert said == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes outlive a launcher that is killed")
def test_nothing_outlives_a_launcher_that_is_killed(endless, tmp_path):
    """All save, as after SIGTERM, and end."""
    ranks = ranks_of(endless.pid).values()
    endless.kill()
    until = time.monotonic() + 60
    while any(is_alive(pid) for pid in ranks) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(is_alive(pid) for pid in ranks)
    assert "everything is saved" in endless.stdout.read()
    again = resumed(tmp_path)
    assert "Resuming after step" in again.stdout, again.stderr


def is_alive(pid: int) -> bool:
    """An orphan that nobody has taken note of yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_wrong_uses_are_refused_before_anything_is_started(run, tmp_path):
    for words, told in (
        (["--devices", "3", "--batch-size", "64"], "--batch-size 63"),
        (["--devices", "2", "--nodes", "2"], "NODE_RANK=K isosphere train"),
        (["--nodes", "2", "--max-restarts", "1"], "torchrun --nnodes 2"),
    ):
        done = run("train", "digits", "--out", "r", "--set", "train.device=cpu", *words)
        assert done.code == 2
        assert told in done.err.replace("\n", " ")
    assert not (tmp_path / "r").exists()


def test_a_launcher_decides_how_many(run, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("train", "digits", "--out", "r", "--devices", "4")
    assert done.code == 2
    assert "has started 2 processes" in done.err.replace("\n", " ")
