"""``isosphere.train``: the run of the command line, from Python, without a trace in the process."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import isosphere
from isosphere.cli import main
from isosphere.data import as_source
from isosphere.errors import UsageError
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import START, Callback, parse_config
from isosphere.workflows._settings import safe_workers
from isosphere.workflows._training import Training

from .conftest import QUICK, pixels


def weights(run):
    return {
        **run.folder.read_method(),
        **{f"encoder.{k}": v for k, v in run.folder.read_encoder()[0].items()},
    }


def assert_same_weights(a, b):
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_python_and_the_command_line_make_the_same_run(folder, tmp_path, quick):
    ours = isosphere.train(folder, tmp_path / "python", **quick)
    words = ["--epochs=1", "--batch-size=8", "--set=model.dim=16", "--set=model.hidden=16"]
    words += ["--set=train.tensorboard=false", "--set=train.precision=float32", "--set=train.device=cpu"]
    assert main(["train", str(folder), "--out", str(tmp_path / "typed"), *words]) == 0
    typed = isosphere.load(tmp_path / "typed", device="cpu")
    assert ours.config == typed.config
    assert_same_weights(ours, typed)
    names = [sorted(p.name for p in run.folder.path.rglob("*")) for run in (ours, typed)]
    assert names[0] == names[1]
    logs = [[line[21:] for line in run.folder.log.read_text().splitlines()] for run in (ours, typed)]
    assert [len(log) for log in logs] == [len(logs[0])] * 2
    assert logs[0][0] == logs[1][0]
    np.testing.assert_array_equal(ours.embed(pixels(3), layer="wccn"), typed.embed(pixels(3), layer="wccn"))


class Pictures(torch.utils.data.Dataset):
    def __init__(self, pictures, bad=None):
        self.pictures, self.bad = pictures, bad

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        if i == self.bad:
            raise ZeroDivisionError("a fault of the dataset")
        return Image.fromarray(self.pictures[i])


def test_images_at_hand_train_as_files_do(folder, tmp_path, quick):
    arrays = pixels()
    from_files = isosphere.train(folder, tmp_path / "files", **quick)
    forms = {
        "array": arrays,
        "pil": [Image.fromarray(x) for x in arrays],
        "paths": sorted(folder.glob("*.png")),
        "dataset": Pictures(arrays),
    }
    for name, images in forms.items():
        made = isosphere.train(images, tmp_path / name, **quick)
        assert_same_weights(made, from_files)
        assert "24" in str(made.config.data.source)
        assert made.images is not None
        assert made.trained_on == isosphere.load(made.folder.path).trained_on == "DATA"
    again = isosphere.train(arrays, tmp_path / "array", **{**quick, "epochs": 2}, resume=True)
    assert again.config.train.epochs == 2
    assert isosphere.load(tmp_path / "files").trained_on == str(folder)


def test_labels_are_watched_and_never_trained_on(tmp_path, quick):
    plain = isosphere.train(pixels(), tmp_path / "plain", **quick)
    labelled = isosphere.train(pixels(), tmp_path / "labelled", labels=np.arange(24) % 2, **quick)
    assert_same_weights(plain, labelled)
    assert read_metrics(labelled.folder.metrics)[-1]["knn"]
    assert "knn" not in read_metrics(plain.folder.metrics)[-1]


def test_sections_and_keys(folder, tmp_path, quick):
    settings = {**quick, "set": {**quick["set"], "optim.clip": 1.0, "data.limit": 20}}
    made = isosphere.train(
        folder,
        tmp_path / "r",
        **settings,
        optim={"learning_rate": np.float32(1e-3)},
        views={"rotation": 15},
        method={"name": "vicreg"},
    ).config
    assert made.optim.learning_rate == pytest.approx(1e-3)
    assert (made.optim.clip, made.data.limit, made.method.name) == (1.0, 20, "vicreg")
    assert made.views.overrides == {"rotation": 15}
    other = isosphere.train(folder, tmp_path / "s", config=made, seed=3, epochs=0, progress=False).config
    assert other == made.replace(train={"seed": 3, "epochs": 0})


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"out": ""}, "out is empty: name the folder of the run"),
        ({"set": {3: 1}}, "the key 3; expected names of settings"),
        ({"epoch": 3}, "There is no keyword 'epoch'. Did you mean 'epochs'"),
        ({"learning_rate": 1e-3}, r'Did you mean optim=\{"learning_rate": 0.001\}'),
        ({"lr": 5}, r"Did you mean .*learning_rate"),
        ({"optim": {"lr": 5}}, r"Did you mean 'optim.learning_rate'"),
        ({"limit": 5}, r'Did you mean set=\{"data.limit": 5\}'),
        ({"optin": {"clip": 1}}, "Did you mean 'optim'"),
        ({"optim": {"lerning_rate": 1}}, "Did you mean 'optim.learning_rate'"),
        ({"optim": 1e-3}, "optim: got 0.001, expected a mapping"),
        ({"train": {"epochs": 3}, "epochs": 2}, "train.epochs is given twice, by epochs= and by train="),
        ({"epochs": 3, "minutes": 1}, "one length"),
        ({"devices": 2}, "devices=2.*torchrun"),
        ({"encoder": "smal-conv"}, "Did you mean 'small-conv'"),
        ({"out": None}, r'out is missing.*isosphere.train\("textures:wood", out="runs/first"\)'),
        ({"data": 7}, "of type int"),
        ({"data": np.full((4, 8, 8, 3), 300.0)}, "float64"),
        ({"data": []}, "empty list"),
        ({"data": "no/such/folder"}, "no file or folder"),
    ],
)
def test_what_is_refused_is_refused_in_the_words_of_python(tmp_path, keywords, said):
    given = {"data": "textures:wood", "out": tmp_path / "r", "progress": False, **keywords}
    with pytest.raises(UsageError, match=said):
        isosphere.train(given.pop("data"), given.pop("out"), **given)
    assert not (tmp_path / "r").exists()


def test_an_occupied_folder_and_resuming(folder, tmp_path, quick):
    isosphere.train(folder, tmp_path / "r", **quick)
    with pytest.raises(UsageError, match="Add resume=True"):
        isosphere.train(folder, tmp_path / "r", **quick)
    with pytest.raises(UsageError, match=r"model\.encoder = small-conv, and now resnet18 is asked for"):
        isosphere.train(folder, tmp_path / "r", resume=True, encoder="resnet18", progress=False)
    longer = isosphere.train(out=tmp_path / "r", resume=True, epochs=2, progress=False)
    assert (longer.config.train.epochs, longer.config.model.dim) == (2, 16)
    assert longer.folder.read_encoder()[1]["step"] == 6
    assert "train.epochs was 1 and is 2" in longer.folder.log.read_text()


def test_weights_that_a_training_began_with_are_read_once(folder, tmp_path, quick):
    """A resumed run needs them no more; as a baseline they are the same weights, or none."""
    file = isosphere.train(folder, tmp_path / "first", **quick).folder.encoder
    given = {
        **quick,
        "init": file,
        "set": {**quick["set"], "train.load_best": False},
    }  # other ones than the first
    isosphere.train(folder, tmp_path / "r", **given)
    shutil.copytree(tmp_path / "r", tmp_path / "twin")
    twin = isosphere.train(out=tmp_path / "twin", resume=True, epochs=2, progress=False)
    log = (tmp_path / "r" / "train.log").read_text()
    assert "all 25 tensors from " in log
    assert "those of backbone" in log
    begun = file.read_bytes()
    file.unlink()
    resumed = isosphere.train(out=tmp_path / "r", resume=True, epochs=2, progress=False)
    assert_same_weights(resumed, twin)
    assert resumed.encoder.start == twin.encoder.start is not None
    images = as_source(pixels(), labels=[0, 1] * 12)
    note = "The network as it was before training cannot be had again"

    def judged():
        made = isosphere.load(tmp_path / "r", device="cpu")
        return made.evaluate(images, tasks=["knn"], progress=False)

    assert any(note in line and "no file" in line for line in judged().notes)
    file.write_bytes(twin.folder.encoder.read_bytes())
    assert any(note in line and "others now than" in line for line in judged().notes)
    file.write_bytes(begun)
    assert not any(note in line for line in judged().notes)


def test_timms_weights_are_fetched_once(folder, tmp_path, quick, monkeypatch):
    """Below 80 px they keep their stem, and every command opens the run, with the network or without."""
    trained = timm.create_model("resnet18").state_dict()
    hub = "timm.models._builder.load_state_dict_from_hf"
    with monkeypatch.context() as reached:
        reached.setattr("isosphere.models._hub._answers", lambda address: True)
        reached.setattr(hub, lambda *_, **__: dict(trained))
        given = {**quick, "encoder": "resnet18", "init": "pretrained", "epochs": 0, "image_size": 64}
        run = isosphere.train(folder, tmp_path / "r", **given)
        assert torch.equal(run.encoder.backbone.conv1.weight, trained["conv1.weight"])
        assert "timm's weights resnet18." in run.folder.log.read_text()
    monkeypatch.setattr("isosphere.models._hub._answers", lambda address: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    again = isosphere.load(tmp_path / "r", device="cpu")
    np.testing.assert_array_equal(again.embed(pixels(3)), run.embed(pixels(3)))
    assert again.encoder.spec() == run.encoder.spec()
    isosphere.train(out=tmp_path / "r", resume=True, epochs=0, progress=False)
    assert again.export("safetensors").files[0].exists()
    spec = json.loads(run.folder.encoder_spec.read_text())
    older = {key: x for key, x in spec.items() if key not in ("stem", "arguments", "start")}
    run.folder.encoder_spec.write_text(json.dumps(older))  # as an earlier version has written it
    older_run = isosphere.load(tmp_path / "r", device="cpu")
    np.testing.assert_array_equal(older_run.embed(pixels(3)), run.embed(pixels(3)))


def test_a_dry_run_writes_nothing_and_has_the_whole_configuration(
    folder, tmp_path, quick, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    made = isosphere.train(folder, dry_run=True, **quick)
    assert (made.config.data.image_size, made.config.model.encoder) == (16, "small-conv")
    assert capsys.readouterr() == ("", "")
    isosphere.train(folder, dry_run=True, **{**quick, "progress": True})
    out, said = capsys.readouterr()
    assert out == ""
    assert "24 images of 16 px" in said
    assert "learning_rate: 0.002" in said
    preset = isosphere.train(preset="stl10-byol", dry_run=True, progress=False)
    assert preset.config.optim.name == "lars"
    assert list(tmp_path.iterdir()) == []


def test_what_is_said(folder, tmp_path, quick, capsys):
    isosphere.train(folder, tmp_path / "silent", **quick)
    assert capsys.readouterr() == ("", "")
    isosphere.train(folder, tmp_path / "r", **{**quick, "progress": True})
    out, said = capsys.readouterr()
    assert out == ""
    assert "Trained 1 epoch (3 steps)" in said
    deep = np.arange(24 * 32 * 24, dtype=np.uint16).reshape(24, 32, 24) % 4096
    isosphere.train(deep, tmp_path / "deep", **{**quick, "progress": True})
    said = capsys.readouterr().err
    assert said.count("pixels: 4095 is white (uint16 from 0 to 4095") == 1
    assert "seen:" not in said  # whole pictures are: nothing to say


def test_nothing_of_the_process_is_changed(folder, tmp_path, quick):
    torch.manual_seed(7)
    state, handlers = torch.get_rng_state(), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    numpy_state, environment = np.random.get_state()[1].copy(), dict(os.environ)  # noqa: NPY002
    threads, warned = torch.get_num_threads(), torch.is_grad_enabled()
    first = isosphere.train(folder, tmp_path / "a", **quick)
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert dict(os.environ) == environment
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, warned)
    assert multiprocessing.get_start_method(allow_none=True) in (None, "fork")
    second = isosphere.train(folder, tmp_path / "b", **quick)
    assert_same_weights(first, second)


def test_from_a_thread_and_after_a_failure(folder, tmp_path, quick):
    whole = isosphere.train(folder, tmp_path / "whole", **quick)
    with pytest.raises(ZeroDivisionError, match="a fault of the dataset"):
        isosphere.train(Pictures(pixels(), bad=5), tmp_path / "faulty", **quick)
    made = []
    thread = threading.Thread(
        target=lambda: made.append(isosphere.train(folder, tmp_path / "thread", **quick))
    )
    thread.start()
    thread.join()
    assert_same_weights(made[0], whole)


class Interrupting(Callback):
    def on_step(self, progress):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_leaves_python_as_an_interrupt_and_the_run_resumable(folder, tmp_path, quick):
    settings = {**quick, "epochs": 4}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            isosphere.train(folder, tmp_path / "r", callbacks=[Interrupting()], **settings)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "Stopped by Ctrl-C after " in RunFolder(tmp_path / "r").log.read_text()
    assert "resume=True" in RunFolder(tmp_path / "r").log.read_text()
    resumed = isosphere.train(out=tmp_path / "r", resume=True, progress=False)
    assert_same_weights(resumed, isosphere.train(folder, tmp_path / "whole", **settings))


def test_a_script_under_spawn_needs_no_guard(tmp_path):
    """Images that are decoded as they are needed, in a process that spawn has started, by a script without a guard."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            multiprocessing.set_start_method("spawn")
            import numpy as np, isosphere, isosphere.training._storage as storage
            storage.IN_MEMORY = 0
            pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
            run = isosphere.train(pixels, out=sys.argv[1], epochs=1, batch_size=8, device="cpu", progress=False)
            print(run.config.data.workers, run.embed(pixels).shape[0])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path / "r"], capture_output=True, text=True, check=False, timeout=240
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0", "24"]), done.stderr


def train_in_child(out):
    isosphere.train(pixels(), out, epochs=1, batch_size=8, device="cpu", progress=False)


def test_in_a_process_that_spawn_has_started(tmp_path):
    child = multiprocessing.get_context("spawn").Process(target=train_in_child, args=(str(tmp_path / "r"),))
    child.start()
    child.join(240)
    assert child.exitcode == 0
    assert RunFolder.open(tmp_path / "r").wccn.exists()


def test_workers_that_were_asked_for_are_had(folder, monkeypatch):
    from isosphere.training import load_config

    plain, asked = load_config(), load_config(None, ["data.workers=2"])
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    assert safe_workers(plain).data.workers == 0
    assert safe_workers(asked).data.workers == 2
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "fork")
    assert safe_workers(plain) is plain


def test_a_damaged_encoder_json_is_written_anew_by_resuming(folder, tmp_path, quick):
    run = isosphere.train(folder, tmp_path / "r", **quick)
    sound = run.folder.encoder_spec.read_text()
    for damage in ("{", '{"name": "small-conv"}'):
        run.folder.encoder_spec.write_text(damage)
        isosphere.train(out=tmp_path / "r", resume=True, progress=False)
        assert run.folder.encoder_spec.read_text() == sound


def test_the_share_of_signal_is_followed_on_request_and_changes_no_bit(tmp_path):
    def trained(name, method, signal):
        options = {
            **QUICK,
            "method": method,
            "set": {**QUICK["set"], "train.log_steps": 1, "train.signal": signal},
        }
        run = isosphere.train(pixels(32), out=tmp_path / name, **options)
        rows = read_metrics(run.folder.metrics)
        return run, [row for row in rows if row["step"] != rows[-1]["step"]]

    sliced, rows = trained("sliced", "sphere-jepa", True)
    shares = [float(row["signal_share"]) for row in rows]
    assert len(shares) >= 2
    assert all(0 < share < 1 for share in shares)
    plain, without = trained("plain", "sphere-jepa", False)
    assert [row["total"] for row in rows] == [row["total"] for row in without]
    state = sliced.method.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.method.state_dict().items())
    assert all(float(row["signal_share"]) == 1 for row in trained("exact", "mmd-heat", True)[1])
    assert not any(row.get("signal_share") for row in trained("none", "simclr", True)[1])


def test_a_run_that_ended_with_the_weights_it_began_with_is_told_to_adapt_them(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    config = parse_config({"data": {"source": "PICS"}, "model": {"encoder": "resnet18", "init": "w.pth"}})
    training = Training(SimpleNamespace(config=config), folder)  # type: ignore[arg-type]
    assert training.instead == ""
    folder.write_chosen({"weights": START, "why": "nothing else is clearly better"})
    assert training.instead == 'isosphere.adapt("PICS", encoder="resnet18", init="w.pth", out="runs/adapted")'
