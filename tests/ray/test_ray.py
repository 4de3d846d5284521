"""Sets embedded by Ray Data, on a cluster of one CPU: the rows of `embed`, and nothing lost that was written."""

import os
import signal
import subprocess
import sys
import time
import uuid
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from isosphere.cli import main
from isosphere.deploy import read_embeddings
from isosphere.errors import RunError, UsageError
from isosphere.ray import require_ray

KEPT = Path(__file__).parent.parent / "kept_run"
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None or find_spec("pyarrow") is None,
    reason='Ray Data is not installed: pip install "ray[data]"',
)
MARK = "ISOSPHERE_TEST_OF_RAY"


def environment(mark: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", MARK: mark, "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}


def command(folder: Path, *more: str) -> list[str]:
    words = [
        "embed",
        str(KEPT),
        str(folder / "images.npz"),
        "--out",
        str(folder / "parts"),
        "--engine",
        "ray",
    ]
    return [sys.executable, "-m", "isosphere", *words, "--no-cache", *more]


def marked(mark: str) -> dict[int, str]:
    """Processes that a test has started, with their command lines."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def until(condition, seconds=180.0):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.fixture
def images(tmp_path):
    """Pictures of three parts, as arrays."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9000, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pictures, labels=rng.integers(0, 3, 9000))
    return tmp_path


@pytest.fixture
def mark():
    mark = uuid.uuid4().hex
    yield mark
    for pid in marked(mark):  # what a failed test has left
        os.kill(pid, signal.SIGKILL)


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.timeout(900)
def test_killed_workers_and_drivers_lose_nothing(images, mark):
    """A worker is killed and replaced; the driver is killed, all of its processes end, and a second call goes on from
    the parts that there are, to the rows of `embed`, to the bit.
    """
    parts = images / "parts"
    with subprocess.Popen(
        command(images), env=environment(mark), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        assert until(lambda: (parts / "part-000000.parquet").exists() or driver.poll() is not None)
        assert driver.poll() is None, driver.stdout.read()
        (worker,) = [
            pid for pid, said in marked(mark).items() if said.startswith("ray::") and "_Worker" in said
        ]
        os.kill(worker, signal.SIGKILL)
        assert until(lambda: (parts / "part-000001.parquet").exists())
        driver.kill()
    assert until(lambda: not marked(mark), 90)
    before = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}
    assert len(before) >= 2
    cut = parts / "part-000000.parquet"
    cut.write_bytes(cut.read_bytes()[:1000])
    del before[cut.name]
    done = subprocess.run(command(images), env=environment(mark), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "9,000 of" in done.stdout
    after = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}
    assert len(after) == 3
    assert before.items() <= after.items()
    alone = [sys.executable, "-m", "isosphere", "embed", str(KEPT), str(images / "images.npz"), "--no-cache"]
    whole = subprocess.run(
        [*alone, "--out", str(images / "whole.parquet")], env=environment(mark), check=True
    )
    assert whole.returncode == 0
    rows, made = (
        read_embeddings(images / "whole.parquet"),
        [read_embeddings(parts / name) for name in sorted(after)],
    )
    assert np.array_equal(np.concatenate([part.values for part in made]), rows.values)
    assert np.array_equal(np.concatenate([part.labels for part in made]), rows.labels)
    assert [path for part in made for path in part.paths] == rows.paths
    assert {part.provenance for part in made} == {rows.provenance}
    assert until(lambda: not marked(mark), 90)


SCRIPT = """
import sys
import numpy as np
import ray
import isosphere
from isosphere.ray import Embed

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
images = np.load(sys.argv[1])["images"][:40]
rows = ray.data.from_items([{"image": image, "name": str(i)} for i, image in enumerate(images)])
made = rows.map_batches(Embed, fn_constructor_args=[sys.argv[2]], batch_size=40,
                        compute=ray.data.ActorPoolStrategy(size=1)).to_pandas()
made = made.sort_values("name", key=lambda names: names.astype(int))
expected = isosphere.load(sys.argv[2], cache=False).embed(list(images))
assert np.array_equal(np.stack(made["embedding"]), expected), "other rows"
ray.shutdown()
"""


@needs_ray
@pytest.mark.slow
def test_anyones_set_is_embedded(images, mark):
    """``isosphere.ray.Embed`` in `map_batches`: the rows of ``run.embed``."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(images / "images.npz"), str(KEPT)],
        env=environment(mark),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_ray_cannot_do_is_refused_before_it_starts(tmp_path, monkeypatch, capsys):
    words = ["embed", str(KEPT), "digits", "--out", str(tmp_path / "parts")]
    assert main([*words, "--engine", "spark"]) == 2
    assert "expected ray" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UsageError, match=r'pip install "ray\[data\]"'):
        require_ray()
    assert main([*words, "--engine", "ray"]) == 2
    assert "is not installed" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "parts").exists()


@needs_ray
def test_a_cluster_that_does_not_start_is_said(monkeypatch):
    import ray
    from isosphere.ray import _parts

    def start(**_):
        raise Exception("The current node timed out during startup.\nMore of it.")  # a plain one, as Ray's

    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(RunError, match=r"Ray does not start \(The current node timed out during startup.\)"):
        next(_parts._run(ray, None, [0]))
