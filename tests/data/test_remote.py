"""Images behind an address, read from a web server and an S3 server of this machine."""

import importlib.util
import pickle

import numpy as np
import pytest
import torch

from isosphere import addresses
from isosphere.data import Loader, fingerprint, load_images, open_source, stamps
from isosphere.data import _remote as remote
from isosphere.data._shards import ShardSource
from isosphere.errors import RemoteError
from tests.web import serving

from .conftest import refusal
from .test_shards import body, write_shards, write_tar

pytest.importorskip("aiohttp", reason="aiohttp, by which addresses of web servers are read, is not installed")


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.01, 0.02, 0.05))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path / "shards", [7, 5, 8, 4])
    return tmp_path / "shards"


@pytest.fixture
def web(shards):
    with serving(shards) as made:
        yield made


def test_shards_of_a_web_server_are_those_of_the_disk(shards, web):
    there, here = (open_source(f"{place}/train-{{000..003}}.tar") for place in (web.address, shards))
    assert isinstance(there, ShardSource)
    assert (there.name, there.paths, there.class_names) == (here.name, here.paths, here.class_names)
    assert there.labels.tolist() == here.labels.tolist()
    assert [there.digest(i) for i in range(24)] == [here.digest(i) for i in range(24)]
    assert fingerprint(there) == fingerprint(here)
    assert torch.equal(load_images(there, 16).images, load_images(here, 16).images)
    assert there.location == f"{web.address}/train-{{000..003}}.tar"


def test_one_picture_is_one_small_request(tmp_path):
    noise = np.random.default_rng(0).bytes
    write_tar(tmp_path / "big.tar", {f"{k}.png": body(k) + noise(200_000) for k in range(20)})
    with serving(tmp_path) as web:
        source = open_source(f"{web.address}/big.tar")
        web.forget()
        source.body(11)
        assert len(web.asked) == 1
        assert web.bytes == len(body(11)) + 200_000


def test_neighbours_are_one_request(shards, web):
    source = open_source(f"{web.address}/train-{{000..003}}.tar")
    web.forget()
    with source.ahead(range(24)):
        assert [source.body(i) for i in range(24)] == [body(seed) for seed in range(24)]
    assert len(web.asked) == 4
    source.body(3)
    assert len(web.asked) == 5
    some = source.subset([20, 3, 4])
    with some.ahead([0, 1, 2]):
        assert [some.body(k) for k in ()] == []
    assert len(web.asked) == 7


def test_an_index_is_made_once_and_by_headers_alone(tmp_path):
    noise = np.random.default_rng(0).bytes(4_000_000)
    write_tar(tmp_path / "large.tar", {f"{k}.png": body(k) + noise for k in range(5)})
    with serving(tmp_path) as web:
        first = open_source(f"{web.address}/large.tar")
        assert web.bytes < 1_000_000
        assert first.body(4) == body(4) + noise
        web.forget()
        assert open_source(f"{web.address}/large.tar").paths == first.paths
        assert web.bytes <= 1  # a byte tells length and version


def test_requests_ahead_grow_while_headers_lie_close(tmp_path):
    noise = np.random.default_rng(0).bytes(50_000)
    write_tar(tmp_path / "small.tar", {f"{k:04d}.png": body(k % 7) + noise for k in range(400)})
    with serving(tmp_path) as web:
        assert len(open_source(f"{web.address}/small.tar")) == 400
        size = (tmp_path / "small.tar").stat().st_size
        assert len(web.asked) < 15
        assert web.bytes < 1.1 * size


def test_a_passing_fault_is_waited_for(shards, web):
    web.failures = 2
    with pytest.warns(UserWarning, match=r"train-000.tar: 503 Service Unavailable. Asked again"):
        source = open_source(f"{web.address}/train-000.tar")
    web.failures = 3
    assert source.body(2) == body(2)
    web.failures = 9
    with pytest.raises(
        RemoteError, match=r"train-000.tar cannot be read: 503 Service Unavailable \(tried for"
    ):
        source.body(2)


def test_a_body_that_ends_too_early_is_no_picture(shards, web):
    source = open_source(f"{web.address}/train-000.tar")
    web.forget()
    web.cut_after = 0
    with pytest.raises(RemoteError, match=r"train-000.tar cannot be read"):
        source.body(2)
    assert len(web.asked) >= 4
    web.cut_after = None
    assert source.body(2) == body(2)


def test_another_part_than_was_asked_for_is_no_picture(shards, web):
    source = open_source(f"{web.address}/train-000.tar")
    web.shift = 512
    with pytest.raises(
        RemoteError, match=r"train-000.tar cannot be read: bytes from \d+ on came, and those from"
    ):
        source.body(2)
    web.shift = 0
    assert source.body(2) == body(2)


def test_a_name_with_a_space_may_be_signed(tmp_path):
    write_tar(tmp_path / "a ü.tar", {f"{k}.png": body(k) for k in range(3)})
    with serving(tmp_path, signature="sig=x%2Fy") as web:
        source = open_source(f"{web.address}/a ü.tar?sig=x%2Fy")
        assert [source.body(k) for k in range(3)] == [body(k) for k in range(3)]


def test_a_host_in_brackets_is_no_wildcard():
    with pytest.raises(RemoteError, match="cannot be read"):
        open_source("http://[::1]:9/train-000.tar")


def test_a_page_in_place_of_a_part_is_named(shards, web):
    source = open_source(f"{web.address}/train-000.tar")
    web.ranges = False
    with pytest.raises(RemoteError, match="something else than the part that was asked for"):
        source.body(2)


def test_endless_redirection_is_named(web):
    with pytest.raises(RemoteError, match="it is redirected without end"):
        open_source(f"{web.address}/round/train-000.tar")


def test_no_image_is_passed_over_because_nobody_answers(shards):
    with serving(shards) as web:
        source = open_source(f"{web.address}/train-{{000..003}}.tar")
        web.stop()
        with pytest.raises(RemoteError, match="Cannot connect to host"):
            load_images(source, 16)
        loader = Loader(source, batch_size=4, size=16, workers=2)
        with pytest.raises(RemoteError, match="Cannot connect to host"):
            list(loader.epoch(0))
        assert loader.skipped == {}
        loader.close()
        with pytest.raises(RemoteError, match="Cannot connect to host"):
            open_source(f"{web.address}/a.tar")


def test_a_changed_shard_is_refused(shards, web):
    source = open_source(f"{web.address}/train-{{000..003}}.tar")
    before, marks = fingerprint(source), stamps(source)
    write_shards(shards, [7, 5, 8, 4], first=50)
    with pytest.raises(RemoteError, match=r"train-000.tar has changed since it was listed"):
        source.body(0)
    now = open_source(f"{web.address}/train-{{000..003}}.tar")
    assert now.body(0) == body(50)
    assert fingerprint(now) != before
    assert (stamps(now) != marks).all()
    (shards / "train-000.tar").unlink()
    with pytest.raises(RemoteError, match=r"train-000.tar is no longer there"):
        now.body(0)


def test_where_nothing_tells_the_version_nothing_is_kept(shards, web, tmp_path):
    web.etags = False
    source = open_source(f"{web.address}/train-000.tar")
    assert not stamps(source).any()
    assert not (tmp_path / "cache" / "shards").exists()
    assert source.body(0) == body(0)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("{}/train-*.tar", "a web server does not list its files"),
        ("{}/", "a web server does not list its files"),
        ("{}/train-{{000..005}}.tar", "2 of 6 names lead to no file ({0}/train-004.tar, {0}/train-005.tar)"),
        ("{}/none.tar", "1 of 1 name leads to no file"),
        ("{}/words.txt", "is not a kind of file that is read behind an address"),
        ("ftp://host/a.tar", "of a kind that is not read; expected s3://, gs://, hf:// or https://"),
        ("file:///tmp/a.tar", "Type the path alone."),
        ("gs://bucket/a.tar", "gcsfs is not installed. Type: pip install fsspec gcsfs"),
        ("pipe:cat a.tar", "would run a shell command"),
    ],
)
def test_what_cannot_be_read_says_what_to_type(shards, web, typed, said):
    if "gcsfs" in said and importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    (shards / "words.txt").write_text("x")
    assert said.format(web.address) in refusal(typed.format(web.address))


def test_a_server_without_ranges_is_refused(shards, web):
    web.ranges = False
    assert "the server sends whole files only (it takes no Range)" in refusal(f"{web.address}/train-000.tar")
    assert web.bytes <= 2 * (shards / "train-000.tar").stat().st_size


def test_passwords_and_signatures_are_used_and_not_shown(shards, web):
    web.password, web.signature = "me:pass@word/1", "sig=s3cr3t%2F%3D&x=1+2"
    host = web.address.removeprefix("http://")
    source = open_source(f"http://me:pass%40word%2F1@{host}/train-{{000..003}}.tar?{web.signature}")
    assert source.body(0) == body(0)
    shown = f"{web.address}/train-{{000..003}}.tar"
    assert source.location == shown
    assert "is not kept: a later command needs" in source.notes[0]
    said = [repr(source), source.location, *source.notes, repr(source._files), str(source.origin(0))]
    assert not [text for text in said if "s3cr3t" in text or "word/1" in text or "word%2F" in text]
    assert open_source(shown).body(0) == body(0)  # this process remembers
    assert pickle.loads(pickle.dumps(source)).body(0) == body(0)
    for wrong in (f"http://me:no@{host}/train-001.tar?{web.signature}", f"{web.address}/train-002.tar"):
        with pytest.raises(RemoteError, match="access is refused") as refused:
            open_source(wrong)
        assert "Type the whole address, in quotes" in str(refused.value)
        assert "s3cr3t" not in str(refused.value)


def test_a_password_may_stand_in_netrc(shards, web, tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "_known", {})
    monkeypatch.setattr(remote, "_systems", {})
    web.password = "me:word"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert open_source(f"{web.address}/train-000.tar").body(0) == body(0)


def test_tables_and_pictures_behind_an_address(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": [body(k) for k in range(6)], "label": list(range(6))})
    parquet.write_table(table, tmp_path / "set.parquet", row_group_size=2)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.png").write_bytes(body(3))
    with serving(tmp_path) as web:
        there, here = open_source(f"{web.address}/set.parquet"), open_source(tmp_path / "set.parquet")
        assert (there.name, there.paths, there.labels.tolist()) == (
            here.name,
            here.paths,
            here.labels.tolist(),
        )
        assert [there.digest(i) for i in range(6)] == [here.digest(i) for i in range(6)]
        assert fingerprint(there) == fingerprint(here)
        web.stop()
        with pytest.raises(RemoteError, match=r"set.parquet cannot be read"):
            pickle.loads(pickle.dumps(there)).body(0)
    with serving(tmp_path) as web:
        one = open_source(f"{web.address}/a/one.png")
        assert (one.paths, one.body(0)) == (["one.png"], body(3))


def test_several_addresses_are_one_source(shards, web):
    typed = f"{web.address}/train-000.tar + {web.address}/train-001.tar"
    both = open_source(typed)
    assert both.paths[0] == "train-000.tar/000000.png"
    assert len(both) == 12
    assert both.location == typed
    mixed = open_source(f"{web.address}/train-000.tar + {shards}/train-001.tar")
    assert [mixed.digest(i) for i in range(12)] == [both.digest(i) for i in range(12)]
    with mixed.ahead([0, 11]):
        assert mixed.digest(11) == both.digest(11)
