"""A file is the old one or the new one, whatever happens in between."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from isosphere.atomic import append_text, atomic_file, locked, write_bytes, write_json, write_text
from isosphere.errors import RunError


def test_content_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first")
    write_text(path, "zweite Fassung: ü")
    assert path.read_text(encoding="utf-8") == "zweite Fassung: ü"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_inside_the_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def fail_halfway():
        with atomic_file(path) as handle:
            handle.write(b"half of the new")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail_halfway()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        with pytest.raises(RunError, match=r"cannot write .*a\.bin: .*unchanged"):
            write_bytes(path, bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_kill_during_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from isosphere.atomic import atomic_file
        with atomic_file(Path(sys.argv[1])) as handle:
            handle.write(bytes(1 << 16)); handle.flush()
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new")  # what the kill left behind is in nobody's way
    assert path.read_bytes() == b"new"
    (left,) = [p for p in tmp_path.iterdir() if p != path]
    assert left.name.startswith(".a.bin.")
    assert left.name.endswith(".tmp")
    others = [tmp_path / name for name in (".a.bin.mine.tmp", ".a.bin2.01234567.tmp", "b")]
    for other in others:
        other.touch()
    link = tmp_path / ".a.bin.89abcdef.tmp"
    link.symlink_to(others[2])
    for hidden in (left, *others):
        os.utime(hidden, (time.time() - 90_000, time.time() - 90_000))
    write_bytes(path, b"newer")  # a day later it goes, and what is not ours stays
    assert sorted(tmp_path.iterdir()) == sorted([path, link, *others])


def test_two_may_write_one_file_at_once(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_file(path) as first, atomic_file(path) as second:
        first.write(b"of the first, and longer")
        second.write(b"of the second")
    assert path.read_bytes() == b"of the first, and longer", "the one that ends last"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_link_is_never_written_through(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".a.known.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match="File exists"):
        write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / ".a.known.tmp").is_symlink(), "it is not ours to remove"


@pytest.mark.parametrize("no_follow", [True, False])
def test_a_link_is_never_added_to(tmp_path, monkeypatch, no_follow):
    if not no_follow:
        monkeypatch.delattr("os.O_NOFOLLOW")
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match=r"cannot write .*log: it is a link to another file"):
        append_text(tmp_path / "log", "x")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    append_text(tmp_path / "other", "ü\n")
    append_text(tmp_path / "other", "v\n")
    assert (tmp_path / "other").read_text(encoding="utf-8") == "ü\nv\n"


def test_a_new_file_has_the_rights_that_the_user_asked_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_bytes_are_synced_before_the_rename(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda self, other: (order.append("rename"), rename(self, other))
    )
    write_bytes(tmp_path / "a", b"x")
    assert order == ["sync", "rename", "sync"]  # the file, its new name, the folder


def test_json_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error_in_words(tmp_path):
    start = time.perf_counter()
    with pytest.raises(RunError, match="No such file"):
        write_text(tmp_path / "absent" / "a.txt", "x")
    assert time.perf_counter() - start < 5


HOLDER = """
import os, sys, time
from pathlib import Path
from isosphere.atomic import locked
with locked(Path(sys.argv[1]), "it is being written", "wait"):
    if os.fork() == 0:
        time.sleep(60)  # a worker that outlives its parent
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_by_one_and_given_back_by_a_kill(tmp_path):
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = rf"it is being written by process {holder.pid}: wait\."
        with pytest.raises(RunError, match=message), locked(path, "it is being written", "wait"):
            pass
        assert path.exists()
        holder.kill()
        holder.wait()
        with locked(path, "it is being written", "wait"):
            assert path.read_text() == str(os.getpid())
        os.killpg(holder.pid, signal.SIGKILL)
    assert not path.exists()


def test_a_lock_holds_back_the_threads_of_one_process(tmp_path):
    path, said = tmp_path / ".lock", []

    def second():
        try:
            with locked(path, "it is being written", "wait"):
                pass
        except RunError as error:
            said.append(str(error))

    with locked(path, "it is being written", "wait"):
        for _ in range(2):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        with pytest.raises(RunError, match="by process"), locked(path, "it is being written", "wait"):
            pass
    assert said == [f"it is being written by process {os.getpid()}, which is this one: wait."] * 2
    second()
    assert len(said) == 2
    assert not path.exists()


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / ".lock").symlink_to("victim")
    with pytest.raises(RunError, match="cannot write"), locked(tmp_path / ".lock", "", ""):
        pass
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda lock: (lock.parent / "victim").hardlink_to(lock), "is a link"),
        (lambda lock: lock.write_text("my own notes"), "is none"),
        (lambda lock: (lock.unlink(), os.mkfifo(lock)), "no regular file"),
    ],
)
def test_a_file_of_somebody_else_is_no_lock(tmp_path, make, said):
    lock = tmp_path / ".a.lock"
    lock.write_text("17")
    make(lock)
    before = lock.read_text() if lock.is_file() else None
    with pytest.raises(RunError, match=said), locked(lock, "", ""):
        pass
    assert lock.exists()
    assert before is None or lock.read_text() == before


def test_a_lock_on_a_full_disk_is_not_left_behind(tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    held = locked(tmp_path / ".a.lock", "", "", within=tmp_path / "a.npz")
    with pytest.raises(RunError, match=r"cannot write .*a\.npz: No space"), held:
        pass
    assert not list(tmp_path.iterdir())


def test_the_second_one_waits_where_it_may(tmp_path):
    path, order = tmp_path / ".lock", []

    def second():
        with locked(path, "", "", patience=30):
            order.append("second")

    with locked(path, "", ""):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_what_is_added_changes_no_copy_and_waits_for_no_pipe(tmp_path):
    (tmp_path / "log").write_text("a\n")
    (tmp_path / "copy").hardlink_to(tmp_path / "log")
    append_text(tmp_path / "log", "b\n")
    assert [(tmp_path / name).read_text() for name in ("log", "copy")] == ["a\nb\n", "a\n"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="cannot write"):
        append_text(tmp_path / "pipe", "x")
