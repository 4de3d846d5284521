"""Decoded pictures on the disk: the same bits as decoded anew, bounded, safe under kill."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.data import DecodedCache, Loader, Source, open_decoded, open_source
from isosphere.data._decoded import _sizes

lmdb = pytest.importorskip("lmdb", reason="LMDB, which keeps decoded pictures, is not installed")
LIMIT = 2**24


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))


def photographs(folder: Path, shapes: list[tuple[int, int]]) -> Source:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate(shapes):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.jpg")
    return open_source(str(folder))


@pytest.fixture
def source(tmp_path) -> Source:
    return photographs(tmp_path / "photographs", [(40 + 3 * (i % 4), 60 - 5 * (i % 3)) for i in range(23)])


def opened(source: Source, size: int = 24, *, whole: bool = True, limit: int = LIMIT) -> DecodedCache:
    return open_decoded(source, size, whole=whole, limit=limit, needed=0)


def epochs(source: Source, cache: DecodedCache | None, *, whole: bool, workers: int) -> list[torch.Tensor]:
    options = {"batch_size": 5, "size": 24, "whole": whole, "workers": workers, "drop_last": False}
    loader = Loader(source, cache=cache, **options)
    found = [x for epoch in (0, 1) for batch in loader.epoch(epoch) for x in batch.images]
    loader.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("whole", [True, False])
def test_batches_are_those_that_are_decoded_anew(source, whole, workers):
    anew = epochs(source, None, whole=whole, workers=0)
    kept = epochs(source, opened(source, whole=whole), whole=whole, workers=workers)
    again = epochs(source, opened(source, whole=whole), whole=whole, workers=workers)
    assert len(anew) == len(kept) == len(again) == 46
    for a, b, c in zip(anew, kept, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_each_picture_is_decoded_once(source, monkeypatch):
    decoded = []
    read = type(source).read
    monkeypatch.setattr(
        type(source), "read", lambda self, i, **options: decoded.append(i) or read(self, i, **options)
    )
    epochs(source, opened(source), whole=True, workers=0)
    assert sorted(decoded) == list(range(23))
    epochs(source, opened(source), whole=True, workers=0)
    assert len(decoded) == 23


def test_a_file_that_changed_is_decoded_anew(source, tmp_path):
    before = epochs(source, opened(source), whole=True, workers=0)
    Image.new("RGB", (50, 50), (200, 0, 0)).save(tmp_path / "photographs" / "00.jpg")
    changed = open_source(str(tmp_path / "photographs"))
    anew = epochs(changed, None, whole=True, workers=0)
    after = epochs(changed, opened(changed), whole=True, workers=0)
    assert all(torch.equal(a, b) for a, b in zip(anew, after, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_unreadable_file_is_replaced_each_time(source, tmp_path):
    (tmp_path / "photographs" / "03.jpg").write_bytes(b"no picture")
    broken = open_source(str(tmp_path / "photographs"))
    cache = opened(broken)
    anew = epochs(broken, None, whole=True, workers=0)
    for _ in range(2):
        kept = epochs(broken, cache, whole=True, workers=0)
        assert all(torch.equal(a, b) for a, b in zip(anew, kept, strict=True))
    assert 3 not in cache.read(range(23))


def test_other_sizes_and_crops_are_other_pictures(source):
    opened(source, 24).add({0: torch.zeros(3, 24, 24, dtype=torch.uint8)})
    assert set(opened(source, 24).read(range(23))) == {0}
    assert not opened(source, 25).read(range(23))
    assert not opened(source, 24, whole=False).read(range(23))


def test_bytes_that_changed_on_the_disk_are_not_taken(source):
    cache = opened(source)
    cache.add({0: torch.full((3, 24, 24), 171, dtype=torch.uint8)})
    cache.close()
    file = cache.folder / "data.mdb"
    body = bytearray(file.read_bytes())
    body[body.index(b"\xab" * 100) + 50] ^= 1
    file.write_bytes(body)
    assert not opened(source).read([0])


@pytest.mark.parametrize("damage", ["cut", "half", "text", "folder"])
def test_a_damaged_file_only_costs_time(source, damage):
    cache = opened(source)
    cache.add({i: torch.full((3, 24, 24), i, dtype=torch.uint8) for i in range(23)})
    cache.close()
    file = cache.folder / "data.mdb"
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        body = file.read_bytes()
        file.write_bytes(
            {"cut": body[:1000], "half": body[: len(body) // 2], "text": b"text" * 10_000}[damage]
        )
    anew = epochs(source, None, whole=True, workers=0)
    kept = epochs(source, opened(source), whole=True, workers=0)
    assert all(torch.equal(a, b) for a, b in zip(anew, kept, strict=True))
    assert len(opened(source).read(range(23))) == 23


def test_no_more_is_kept_than_the_limit(source):
    limit = 2**20
    cache = opened(source, 200, limit=limit)  # 23 pictures of 120 kB and more
    for i in range(23):
        cache.add({i: torch.zeros(3, 200, 200, dtype=torch.uint8)})
    assert 2 <= len(cache.read(range(23))) <= 8
    assert (cache.folder / "data.mdb").stat().st_size <= limit


def test_caches_that_were_not_used_for_longest_make_room(source):
    folders = []
    for k, size in enumerate((24, 25, 26)):
        cache = opened(source, size)
        cache.add({i: torch.zeros(3, 200, 200, dtype=torch.uint8) for i in range(20)})
        os.utime(cache.folder, (1000 + k, 1000 + k))
        folders.append(cache.folder)
    each = _sizes(folders[0].parent)[folders[0]]
    cache = open_decoded(source, 27, whole=True, limit=3 * each, needed=2 * each - 1)
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert cache.limit <= 2 * each
    again = open_decoded(source, 27, whole=True, limit=3 * each, needed=2 * each - 1)
    assert again.limit == cache.limit  # another rank of the host


def test_what_a_killed_process_wrote_is_there(source, tmp_path):
    script = textwrap.dedent(
        """
        import sys, torch
        from isosphere.data import open_decoded, open_source
        cache = open_decoded(open_source(sys.argv[1]), 24, whole=True, limit=2**24, needed=0)
        print("begun", flush=True)
        for n in range(10**9):
            cache.add({i: torch.full((3, 24, 24), i, dtype=torch.uint8) for i in range(n % 23 + 1)})
            print(n, flush=True)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "photographs"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() != "30":
        assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    found = opened(source).read(range(23))
    assert len(found) == 23
    assert all(torch.equal(x, torch.full((3, 24, 24), i, dtype=torch.uint8)) for i, x in found.items())


def test_it_travels_to_another_process(source):
    cache = opened(source)
    cache.add({2: torch.ones(3, 24, 24, dtype=torch.uint8)})
    body = pickle.dumps(cache)
    cache.close()
    assert set(pickle.loads(body).read(range(23))) == {2}


def test_images_that_nothing_tells_apart_are_not_kept(tmp_path):
    cache = DecodedCache(tmp_path / "c", np.zeros((3, 2), np.int64), LIMIT)
    cache.add({0: torch.ones(3, 4, 4, dtype=torch.uint8)})
    assert not cache.read(range(3))


def test_a_folder_that_cannot_be_written_only_costs_time(source, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    anew = epochs(source, None, whole=True, workers=0)
    kept = epochs(source, opened(source), whole=True, workers=0)
    assert all(torch.equal(a, b) for a, b in zip(anew, kept, strict=True))
