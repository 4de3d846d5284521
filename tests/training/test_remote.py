"""A training on shards behind an address: the same bits as from the disk, and nothing lost when the server is gone."""

import pytest
import torch

from isosphere.data import Loader, open_source
from isosphere.data import _remote as remote
from isosphere.errors import RunError
from isosphere.training import Callback
from tests.data.test_shards import write_shards
from tests.web import serving

pytest.importorskip("aiohttp", reason="aiohttp, by which addresses of web servers are read, is not installed")

PATTERN = "train-{000..003}.tar"


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.01, 0.02, 0.05))


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path / "shards", [10, 10, 10, 10])
    return tmp_path / "shards"


def loader(place) -> Loader:
    return Loader(open_source(f"{place}/{PATTERN}"), size=16, batch_size=8, seed=3, workers=2)


class GoneAfter(Callback):
    def __init__(self, steps: int, stop) -> None:
        self.steps, self.stop = steps, stop

    def on_step(self, progress) -> None:
        if progress.step == self.steps:
            self.stop()


def test_a_server_that_goes_away_loses_nothing(bench, shards, equal_bits, rows_of):
    whole = bench.run("whole", loader=loader(shards))
    kept_rarely = bench.config(checkpoint_minutes=60.0)
    with serving(shards) as web:
        with pytest.raises(RunError) as failed:
            bench.run(
                "broken", config=kept_rarely, loader=loader(web.address), callbacks=GoneAfter(2, web.stop)
            )
        said = str(failed.value)
        assert f"{web.address}/train-00" in said
        assert "cannot be read: Cannot connect to host" in said
        assert "last.ckpt, is kept" in said
        assert "goes on from there" in said
        saved = torch.load(bench.path / "broken" / "checkpoints" / "last.ckpt", weights_only=True)
        assert saved["position"]["step"] >= 2
    with serving(shards, port=web.port) as again:
        resumed = bench.run("broken", config=kept_rarely, loader=loader(again.address))
    assert resumed.summary.steps == whole.summary.steps == 15
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)
