"""The folder of a run: what is refused, what comes back."""

import json
import multiprocessing
import os
import platform
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from isosphere.errors import RunError, UsageError
from isosphere.runs import RunFolder, pack_tensors, read_tensors


def finished(path):
    folder = RunFolder.create(path)
    folder.write_config({"train": {"epochs": 1}})
    folder.write_encoder({"w": torch.ones(2, 3)}, {"name": "small-conv", "image_size": 32})
    return folder


def test_create_makes_parents_and_is_idempotent_while_empty(tmp_path):
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "c", tmp_path / "d"):
        assert RunFolder.create(path).path == path
        assert path.is_dir()


def test_checking_touches_nothing(tmp_path):
    RunFolder.vacant(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_an_occupied_folder_names_both_ways_out(tmp_path):
    finished(tmp_path / "run")
    with pytest.raises(UsageError, match=r'resume=True.*out=".*run-2"'):
        RunFolder.create(tmp_path / "run")
    RunFolder.create(tmp_path / "run", resume=True)


def test_a_folder_of_something_else_is_refused_even_with_resume(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        RunFolder.create(tmp_path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(tmp_path / "run")


@pytest.mark.parametrize("name", ["checkpoints", "features", "search", "export"])
def test_a_folder_within_that_is_a_link_is_refused(tmp_path, name):
    finished(tmp_path / "run")
    others = tmp_path / "models"
    others.mkdir()
    inside = tmp_path / "run" / name
    if inside.exists():
        inside.rmdir()
    inside.symlink_to(others)
    (tmp_path / "linked").symlink_to(tmp_path / "run")  # a run itself may lie behind one
    for path in (tmp_path / "run", tmp_path / "linked"):
        with pytest.raises(UsageError, match=f"{name} is a link"):
            RunFolder.open(path)
        with pytest.raises(UsageError, match=f"{name} is a link"):
            RunFolder.vacant(path, resume=True)
    inside.unlink()
    assert RunFolder.open(tmp_path / "linked")


def test_a_folder_that_may_not_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != tmp_path
    )  # an administrator may write anywhere
    for path in (tmp_path, tmp_path / "run", tmp_path / "a" / "run"):
        with pytest.raises(UsageError, match=f"there is no right to write in {tmp_path}. Give another out"):
            RunFolder.vacant(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_within_a_file_or_behind_a_shut_door_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file, which is a file: give another out"):
        RunFolder.vacant(tmp_path / "file" / "run")

    def shut(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", shut)
    with pytest.raises(UsageError, match=r"cannot be used \(permission denied\): give another out"):
        RunFolder.vacant(tmp_path / "run")


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(UsageError, match="there is no run at"):
        RunFolder.open(tmp_path / "run")
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)
    folder = RunFolder.create(tmp_path / "runs" / "a")
    folder.write_config({})
    with pytest.raises(UsageError, match="saved no encoder yet"):
        RunFolder.open(tmp_path / "runs" / "a")
    with pytest.raises(UsageError, match=r"It has runs in it: .*runs/a"):
        RunFolder.open(tmp_path / "runs")
    finished(tmp_path / "whole")
    assert RunFolder.open(tmp_path / "whole").path == tmp_path / "whole"


def test_weights_come_back_plain_whatever_their_memory_order(tmp_path):
    folder = finished(tmp_path / "run")
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    folder.write_encoder({"w": weight, "tied": weight, "extra": {"not": "a tensor"}}, {"name": "x"})
    state, spec = folder.read_encoder()
    assert set(state) == {"w", "tied"}
    assert torch.equal(state["w"], weight)
    assert spec == {"name": "x"}
    folder.write_method({"head.w": weight.bfloat16()})
    assert folder.read_method()["head.w"].dtype == torch.bfloat16


def test_damaged_files_are_named(tmp_path):
    folder = finished(tmp_path / "run")
    folder.encoder.write_bytes(b"\0" * 20)
    with pytest.raises(RunError, match=r"encoder\.safetensors cannot be read"):
        folder.read_encoder()
    folder.encoder_spec.write_text('{"format": "other"}')
    with pytest.raises(RunError, match="another format"):
        folder.read_encoder()
    folder.encoder_spec.write_text("{")
    with pytest.raises(RunError, match=r"encoder\.json cannot be read"):
        folder.read_encoder()
    folder.config.write_text("a: [")
    with pytest.raises(RunError, match=r"config\.yaml cannot be read"):
        folder.read_config()
    folder.config.write_text("just words")
    with pytest.raises(RunError, match="damaged"):
        folder.read_config()
    folder.evaluation.write_text("{")
    with pytest.raises(RunError, match=r"evaluation\.json is damaged"):
        folder.read_evaluation()


def test_a_flipped_bit_of_the_weights_is_noticed(tmp_path):
    folder = finished(tmp_path / "run")
    folder.write_method({"head.w": torch.ones(3)})
    folder.write_wccn({"mean": torch.zeros(2), "basis": torch.eye(2)})
    folder.keep_weights(1, {"w": torch.ones(2)})
    readers = {
        folder.encoder: folder.read_encoder,
        folder.method: folder.read_method,
        folder.wccn: folder.read_wccn,
        folder.checkpoint.parent / "epoch-0001.safetensors": lambda: folder.read_kept(1),
    }
    for file, read in readers.items():
        read()
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
        with pytest.raises(RunError, match=f"{file.stem}.* is damaged: its content is no"):
            read()


def test_files_of_weights_without_a_digest_are_read(tmp_path):
    """As versions before wrote them."""
    folder = finished(tmp_path / "run")
    folder.encoder.write_bytes(save({"w": torch.zeros(2)}, metadata={"format": "pt"}))
    assert torch.equal(folder.read_encoder()[0]["w"], torch.zeros(2))


def test_weights_of_different_steps_are_not_combined(tmp_path):
    """A kill between the two files of one checkpoint."""
    folder = finished(tmp_path / "run")
    folder.write_encoder({"w": torch.ones(2)}, {"name": "x", "step": 8})
    folder.write_method({"head.w": torch.ones(2)}, step=8)
    folder.write_wccn({"mean": torch.zeros(2)})
    head, wccn = folder.method.read_bytes(), folder.wccn.read_bytes()
    spec = folder.encoder_spec.read_text()
    assert torch.equal(folder.read_method(step=8)["head.w"], torch.ones(2))
    folder.write_encoder({"w": torch.ones(2)}, {"name": "x", "step": 16})
    folder.method.write_bytes(head)
    folder.wccn.write_bytes(wccn)
    with pytest.raises(
        RunError, match=r"method\.safetensors is of step 8 .* encoder\.json of step 16.*resume=True"
    ):
        folder.read_method(step=16)
    with pytest.raises(RunError, match=r"wccn\.safetensors is of step 8"):
        folder.read_wccn()
    folder.encoder_spec.write_text(spec)
    with pytest.raises(RunError, match=r"encoder\.safetensors is of step 16 .* encoder\.json of step 8"):
        folder.read_encoder()


def test_evaluation_keeps_what_is_not_replaced(tmp_path):
    folder = finished(tmp_path / "run")
    assert folder.read_evaluation() == {}
    folder.update_evaluation({"knn": {"a": 1}})
    folder.update_evaluation({"geometry": {"b": 2}})
    assert folder.update_evaluation({"knn": {"a": 3}}) == {"knn": {"a": 3}, "geometry": {"b": 2}}
    assert folder.read_evaluation() == {"knn": {"a": 3}, "geometry": {"b": 2}}


def test_environment_has_versions_and_nothing_personal(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "sesame-open")
    folder = finished(tmp_path / "run")
    folder.write_environment()
    text = folder.environment.read_text()
    content = json.loads(text)
    assert content["packages"]["torch"] == version("torch")
    assert content["cpu"]["cores"] == os.cpu_count()
    assert "sesame-open" not in text
    assert platform.node() not in text


def test_the_same_weights_are_the_same_bytes():
    about = {name: name for name in "abcdefgh"}
    packed = {pack_tensors({"y": torch.ones(2), "x": torch.zeros(3)}, about) for _ in range(5)}
    assert len(packed) == 1
    assert load(packed.pop())["y"].tolist() == [1, 1]


def test_two_that_evaluate_at_once_keep_the_tasks_of_both(tmp_path):
    folder = finished(tmp_path / "run")

    def add(name):
        for i in range(20):
            RunFolder(folder.path).update_evaluation({f"{name}{i}": {"figures": []}})

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=add, args=(name,)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert len(folder.read_evaluation()) == 40
    assert not list(folder.path.glob(".evaluation*"))


@pytest.mark.parametrize(
    "name", ["wccn.safetensors", "checkpoints/last.ckpt", "train.log", "method.safetensors"]
)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_refused(tmp_path, name, make):
    folder = finished(tmp_path / "run")
    make(folder.path / name)
    with pytest.raises(UsageError, match=rf"{name} is no regular file"):
        RunFolder.vacant(folder.path, resume=True)
    with pytest.raises(UsageError, match=rf"{name} is no regular file"):
        RunFolder.open(folder.path)


def test_tensors_are_read_from_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(RunError, match="no regular file"):
        read_tensors(tmp_path / "a.safetensors")


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match="no name in UTF-8"):
        RunFolder.create(tmp_path / "r\udcff")
    assert not list(tmp_path.iterdir())
