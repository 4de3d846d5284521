"""Images in a bucket, read from moto's S3 server, which runs beside as a process of its own."""

import socket
import subprocess
import sys
import time

import pytest
import torch

from isosphere.data import Loader, fingerprint, load_images, open_source, stamps
from isosphere.data import _remote as remote
from isosphere.errors import RemoteError

from .conftest import refusal
from .test_shards import body, write_shards

LACKING = "is not installed: buckets are not tested. Type: pip install s3fs 'moto[s3]' flask flask-cors"
s3fs = pytest.importorskip("s3fs", reason=f"s3fs {LACKING}")
pytest.importorskip("moto", reason=f"moto {LACKING}")
pytest.importorskip("flask_cors", reason=f"flask-cors {LACKING}")


class Bucket:
    """A bucket, what was asked of its server, and a way to end it."""

    def __init__(self, folder, port) -> None:
        self.port = port
        self.log = folder / "moto.log"
        self.start()
        self.files = s3fs.S3FileSystem(skip_instance_cache=True)
        self.files.mkdir("bucket")

    def start(self) -> None:
        words = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        for _ in range(300):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def put(self, folder) -> None:
        for file in sorted(folder.iterdir()):
            self.files.pipe_file(f"bucket/set/{file.name}", file.read_bytes())

    def asked(self, word: str) -> int:
        return sum(word in line for line in self.log.read_text().splitlines())


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "_WAITS", (0.01,))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        made = Bucket(tmp_path_factory.mktemp("moto"), port)
        yield made
        made.stop()


@pytest.fixture
def shards(tmp_path, monkeypatch, bucket):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", [7, 5, 8, 4])
    bucket.put(tmp_path / "shards")
    return tmp_path / "shards"


def test_every_way_of_naming_a_bucket_gives_the_images_of_the_disk(shards, bucket):
    here = open_source(f"{shards}/train-{{000..003}}.tar")
    for typed in ("set/train-{000..003}.tar", "set/*.tar", "set/train-00?.tar", "set", "set/"):
        there = open_source(f"s3://bucket/{typed}")
        assert there.paths == here.paths
        assert there.labels.tolist() == here.labels.tolist()
        assert fingerprint(there) == fingerprint(here)
    assert torch.equal(load_images(there, 16).images, load_images(here, 16).images)
    assert open_source("s3://testing:testing@bucket/set/").location == "s3://bucket/set/"


def test_a_folder_is_listed_once_and_a_picture_is_one_request(shards, bucket):
    open_source("s3://bucket/set/train-{000..003}.tar")
    lists, heads, gets = (
        bucket.asked(word) for word in ("list-type=2&prefix=set/&", "HEAD", "GET /bucket/set/")
    )
    source = open_source("s3://bucket/set/train-{000..003}.tar")
    assert bucket.asked("list-type=2&prefix=set/&") == lists + 1
    assert bucket.asked("HEAD") <= heads + 1  # classnames.txt
    assert bucket.asked("GET /bucket/set/") == gets
    assert source.body(9) == body(9)
    assert bucket.asked("GET /bucket/set/") == gets + 1


def test_two_workers_read_the_bits_of_the_disk(shards, bucket):
    there, here = (
        Loader(open_source(f"{place}/train-{{000..003}}.tar"), batch_size=8, size=16, seed=1, workers=2)
        for place in ("s3://bucket/set", shards)
    )
    for one, two in zip(there.epoch(0), here.epoch(0), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.index, two.index)
    there.close()
    here.close()


def test_a_changed_object_is_refused(shards, bucket, tmp_path):
    source = open_source("s3://bucket/set/train-{000..003}.tar")
    marks = stamps(source)
    assert source.body(0) == body(0)
    write_shards(tmp_path / "other", [7, 5, 8, 4], first=50)
    bucket.put(tmp_path / "other")
    for image in (0, 23):  # a shard that is open, and one that is not
        with pytest.raises(RemoteError, match="has changed since it was listed"):
            source.body(image)
    now = open_source("s3://bucket/set/train-{000..003}.tar")
    assert now.body(0) == body(50)
    assert (stamps(now) != marks).all()
    bucket.files.rm("bucket/set/train-000.tar")
    with pytest.raises(RemoteError, match=r"train-000.tar is no longer there"):
        now.body(0)


def test_what_is_not_there_says_so(shards, bucket):
    assert "1 of 5 names lead to no file (s3://bucket/set/train-004.tar)" in refusal(
        "s3://bucket/set/train-{000..004}.tar"
    )
    assert "leads to no file" in refusal("s3://bucket/none/*.tar")
    assert "leads to no file" in refusal("s3://nobucket/a.tar")


def test_pictures_in_folders_are_those_of_the_disk(shards, bucket, tmp_path):
    for k in range(6):
        file = tmp_path / "pics" / ("train" if k < 4 else "test") / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body(k))
        bucket.files.pipe_file(f"bucket/{file.relative_to(tmp_path)}", body(k))
    for split in ("train", "test", None):
        there, here = (open_source(f"{place}/pics", split=split) for place in ("s3://bucket", tmp_path))
        assert (there.name, there.paths, there.class_names) == (here.name, here.paths, here.class_names)
        assert there.labels.tolist() == here.labels.tolist()
        assert fingerprint(there) == fingerprint(here)


def test_a_server_that_is_killed_is_named(shards, bucket, monkeypatch):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    source = open_source("s3://bucket/set/train-{000..003}.tar")
    bucket.stop()
    try:
        with pytest.raises(RemoteError, match=r"train-000.tar cannot be read: .*\(tried for"):
            source.body(0)
    finally:
        bucket.start()
        bucket.files.mkdir("bucket")
