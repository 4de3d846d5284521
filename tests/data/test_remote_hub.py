"""Images of a data set on the Hub, read from one of this machine."""

import pytest
import torch

from isosphere.data import Loader, fingerprint, open_source
from isosphere.data import _remote as remote
from isosphere.errors import RemoteError
from tests.hub import hub_of

from .conftest import refusal
from .test_shards import body, write_shards

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "_WAITS", (0.01,))
    monkeypatch.setattr(remote, "_systems", {})
    write_shards(tmp_path / "set" / "data", [7, 5, 8, 4])
    with hub_of(tmp_path / "set") as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield tmp_path / "set" / "data", asked


def test_a_data_set_of_the_hub_is_that_of_the_disk(shards):
    folder, asked = shards
    here = open_source(folder)
    for typed in ("data/train-{000..003}.tar", "data/*.tar", "data", "data/"):
        there = open_source(f"hf://datasets/me/set/{typed}")
        assert (there.paths, fingerprint(there)) == (here.paths, fingerprint(here))
    asked.clear()
    assert there.body(9) == body(9)
    assert len(asked) <= 1
    loaders = [Loader(each, batch_size=8, size=16, seed=1, workers=2) for each in (there, here)]
    for one, two in zip(*(loader.epoch(0) for loader in loaders), strict=True):
        assert torch.equal(one.images, two.images)
    for loader in loaders:
        loader.close()


def test_a_changed_file_is_noticed_when_its_version_is_asked_for_again(shards, monkeypatch):
    source = open_source("hf://datasets/me/set/data")
    write_shards(shards[0], [7, 5, 8, 4], first=50)
    monkeypatch.setattr(remote, "_RENEWED", 0.0)
    with pytest.raises(RemoteError, match="has changed since it was listed"):
        source.body(0)
    assert "leads to no file" in refusal("hf://datasets/me/set/none.tar")
