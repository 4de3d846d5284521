"""Exported files compute what the encoder computes, and the printed lines run as they are."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import isosphere
from isosphere.data import decode, open_source
from isosphere.deploy import export
from isosphere.deploy._model_card import model_card
from isosphere.deploy._onnx import FromPixels
from isosphere.errors import RunError, UsageError
from isosphere.evaluation import Estimate, Figure, TaskResult, update_results
from isosphere.models import build_encoder
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows._splits import Splits
from tests.zoo import timm_transform, zoo

from .conftest import picture, train_tiny

checked_module = __import__("sys").modules["isosphere.deploy._checked"]


def run_snippet(text, image=None) -> tuple[Any, str]:
    """Execute pasted lines, with another picture in place of the example's, and return what they define."""
    defined: dict[str, Any] = {}
    if image is not None:
        lines = [
            f"image = _picture_  # {line}" if line.startswith("image =") else line
            for line in text.splitlines()
        ]
        text, defined = "\n".join(lines), {"_picture_": image}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(text, "snippet", "exec"), defined)
    return defined["features"], said.getvalue()


SOME = (
    "JPEG",
    "16-bit grey PNG",
    "RGBA PNG",
    "EXIF 6",
    "large JPEG",
    "grey PNG",
    "CMYK TIFF",
    "wide",
    "one pixel",
)


def same_of_every_kind(run, snippet: str, kinds=SOME, layer: str = "backbone") -> None:
    """The printed lines give of every kind of file what `embed` gives of its picture."""
    bodies = [zoo()[kind].body for kind in kinds]
    # One by one: a list of integers and floats has no common white.
    expected = [run.embed(Image.open(io.BytesIO(body)), layer=layer)[0] for body in bodies]
    for kind, body, row in zip(kinds, bodies, expected, strict=True):
        features, _ = run_snippet(snippet, body)
        assert np.abs(np.asarray(features)[0] - row).max() < 1e-4 * max(1, np.abs(row).max()), kind


def test_safetensors(run, tmp_path):
    made = export(run, "safetensors", tmp_path / "out" / "e.safetensors")
    assert [file.name for file in made.files] == ["e.safetensors", "e.json", "e.py"]
    _, said = run_snippet(made.snippet)
    assert said.strip() == "torch.Size([1, 256])"
    same_of_every_kind(run, made.snippet, tuple(zoo()))
    assert "0.0e+00" in made.check
    begun = build_encoder(None, init=made.files[0])
    assert (begun.name, begun.image_size, begun.pretrained_cfg) == ("small-conv", 24, None)
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), run.encoder.parameters(), strict=True))


@pytest.mark.parametrize(
    ("encoder", "size"), [("test_resnet", 24), ("test_vit", 32), ("test_efficientnet", 32)]
)
def test_timm(tmp_path, encoder, size):
    for seed in range(8):
        (tmp_path / "data").mkdir(exist_ok=True)
        picture(seed, size).save(tmp_path / "data" / f"{seed}.png")
    values = {"model.encoder": encoder, "data.image_size": size, "train.epochs": 0, "train.batch_size": 8}
    run = isosphere.load(train_tiny(tmp_path / "run", tmp_path / "data", **values), device="cpu")
    made = export(run, "timm")
    assert made.files[0] == tmp_path / "run" / "export" / "encoder-timm.safetensors"
    card = json.loads(made.files[1].read_text())
    assert card["architecture"] == encoder
    assert card["pretrained_cfg"]["input_size"] == [3, size, size]
    assert not any(key.startswith("backbone.") for key in load_file(made.files[0]))
    assert "isosphere" not in made.snippet.replace(str(tmp_path), "")
    features, _ = run_snippet(made.snippet)
    assert features.shape == (1, run.encoder.feature_dim)
    same_of_every_kind(run, made.snippet)
    loaded = timm.create_model(encoder, global_pool=card["global_pool"], **card["model_args"])
    if not card["small_stem"]:
        loaded.load_state_dict(load_file(made.files[0]))
    begun = build_encoder(None, init=made.files[0])
    assert (begun.name, begun.image_size, begun.stem) == (encoder, size, run.encoder.stem)
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), run.encoder.parameters(), strict=True))


KINDS = (*SOME, "palette PNG", "CMYK JPEG", "tall", "EXIF 6 JPEG", "16-bit TIFF of a Mac", "progressive JPEG")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A run that began with given weights of timm, and the same network of timm with its own transform."""
    root = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=0).eval()
    save_file(model.state_dict(), root / "weights.safetensors")
    (root / "data").mkdir()
    for seed in range(8):
        picture(seed, 60).resize((60, 40)).save(root / "data" / f"{seed}.png")
    values = {"model.encoder": "test_efficientnet", "model.init": root / "weights.safetensors"}
    values |= {"data.image_size": 32, "train.epochs": 0}
    run = isosphere.load(train_tiny(root / "run", root / "data", **values), device="cpu")
    return run, model, timm_transform(model.pretrained_cfg, 32)


def test_a_run_of_given_weights_sees_files_as_timm_does(given, tmp_path):
    run, model, transform = given
    assert run.encoder.crop_pct == model.pretrained_cfg["crop_pct"] != 1
    bodies = {kind: zoo()[kind].body for kind in KINDS}
    for kind, body in bodies.items():
        (tmp_path / f"{kind}.{zoo()[kind].suffix}").write_bytes(body)
    with torch.no_grad():
        rows = {kind: model(transform(decode(body))[None])[0].numpy() for kind, body in bodies.items()}
    expected, scale = np.stack(list(rows.values())), 1e-4 * max(1, np.abs(list(rows.values())).max())
    assert (
        np.abs(run.embed([Image.open(io.BytesIO(body)) for body in bodies.values()]) - expected).max() < scale
    )
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    for path, row in zip(files, run.embed(files), strict=True):
        assert np.abs(row - rows[Path(path).stem]).max() < scale, path
    for format in ("timm", "safetensors"):
        made = export(run, format, tmp_path / format / "e.safetensors")
        card = json.loads(made.files[1].read_text())
        assert card.get("pretrained_cfg", card)["crop_pct"] == run.encoder.crop_pct
        for kind in KINDS:
            features, _ = run_snippet(made.snippet, bodies[kind])
            assert np.abs(np.asarray(features)[0] - rows[kind]).max() < scale, kind
    prepare: Any = {}
    exec(run.pixels.script(normalised=False), prepare)
    module = FromPixels(run, "backbone").eval()
    for kind in KINDS:
        got = module(torch.from_numpy(prepare["prepare"](bodies[kind]))[None]).detach().numpy()
        assert np.abs(got - rows[kind]).max() < scale, kind


def test_a_run_of_given_weights_is_evaluated_as_timm_sees_files(given):
    run, model, transform = given
    data = run.folder.path.parent / "data"
    source = open_source(data)
    context = EvaluationContext(run, Splits(source, source.subset([0, 1]), ""))
    with torch.no_grad():
        expected = torch.cat([model(transform(source.image(i))[None]) for i in range(len(source))])
    assert (context.centre("trained", "train").backbone - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_run_of_given_weights_of_an_earlier_version_keeps_its_pixels(given, tmp_path):
    run, _, _ = given
    folder = shutil.copytree(run.folder.path, tmp_path / "run")
    record = json.loads((folder / "encoder.json").read_text())
    assert {record.pop("crop_pct"), record.pop("crop_mode")} == {run.encoder.crop_pct, "center"}
    (folder / "encoder.json").write_text(json.dumps(record))
    older = isosphere.load(folder, device="cpu", cache=False)
    assert older.reading.timm is None
    assert older.canvas == older.config.data.canvas_size == 40
    assert "timm" not in older.pixels.key


def test_search_of_given_weights_looks_at_whole_pictures_and_takes_no_square_for_another(given, tmp_path):
    run, model, _ = given
    picture(3, 48).save(tmp_path / "square.png")
    found = run.index(tmp_path, layer="backbone")
    pixels = run.pixels.fitted("squeeze")
    square = pixels.reading.square(picture(3, 48), 32)
    with torch.no_grad():
        expected = model(pixels.view(square[None]))[0]
    expected = expected / expected.norm()
    assert np.abs(found.unit[0].numpy() - expected.numpy()).max() < 1e-4


def test_what_onnx_is_written_from_takes_pixels_as_the_file_beside_it_makes_them(run):
    prepare: Any = {}
    exec(run.pixels.script(normalised=False), prepare)
    module = FromPixels(run, "backbone").eval()
    for kind in SOME:
        body = zoo()[kind].body
        got = module(torch.from_numpy(prepare["prepare"](body))[None]).detach().numpy()
        assert np.abs(got - run.embed(Image.open(io.BytesIO(body)))).max() < 1e-4


@pytest.mark.parametrize("layer", ["head", pytest.param("backbone", marks=pytest.mark.slow)])
def test_onnx(run, tmp_path, layer):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        onnxruntime = pytest.importorskip(module, reason=f"{module} is not installed")
    made = export(run, "onnx", tmp_path / "e.onnx", layer=layer)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.onnx", "e.py"]
    same_of_every_kind(run, made.snippet, layer=layer)
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"))
    x = torch.rand(7, 3, 24, 24)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (run.encoder.mean, run.encoder.std))
    expected = run.encode((x - mean) / std)[0 if layer == "backbone" else 1]
    (got,) = session.run(None, {"images": x.numpy()})
    assert np.abs(got - expected.numpy()).max() < 1e-4
    content = (tmp_path / "e.onnx").read_bytes()
    assert b".py" not in content, "where the source lies here is nobody's business"


def test_onnx_of_another_opset_and_of_any_size(run, tmp_path):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    onnx, onnxruntime = __import__("onnx"), __import__("onnxruntime")
    export(run, "onnx", tmp_path / "e.onnx", opset=21, dynamic_size=True)
    (opset,) = [each.version for each in onnx.load(tmp_path / "e.onnx").opset_import if not each.domain]
    assert opset == 21
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"))
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    x = torch.rand(3, 3, 40, 56)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (run.encoder.mean, run.encoder.std))
    (got,) = session.run(None, {"images": x.numpy()})
    assert np.abs(got - run.encode((x - mean) / std)[0].numpy()).max() < 1e-4
    with pytest.raises(UsageError, match=r"opset=7: torch writes opset \d+ instead"):
        export(run, "onnx", tmp_path / "f.onnx", opset=7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.onnx", "e.py"]


def test_an_encoder_of_one_size_has_no_dynamic_one(run, tmp_path, monkeypatch):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")

    def one_size(x):
        assert x.shape[2:] == (24, 24)

    monkeypatch.setattr(run.encoder, "forward", one_size)
    with pytest.raises(UsageError, match="takes images of 24 px alone: leave dynamic_size=True out"):
        export(run, "onnx", tmp_path / "e.onnx", dynamic_size=True)


def test_onnx_without_its_packages(run, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match="pip install onnx onnxscript onnxruntime"):
        export(run, "onnx", tmp_path / "e.onnx")


def test_a_file_that_computes_something_else_is_not_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checked_module, "compare", lambda *_: 1e-3)
    with pytest.raises(RunError, match=r"differs from the encoder by 1\.0e-03"):
        export(run, "safetensors", tmp_path / "e.safetensors")
    assert not (tmp_path / "e.safetensors").exists()
    (tmp_path / "e.safetensors").write_bytes(b"of before")
    with pytest.raises(RunError, match="nothing was written"):
        export(run, "safetensors", tmp_path / "e.safetensors", overwrite=True)
    assert (tmp_path / "e.safetensors").read_bytes() == b"of before"


def test_a_folder_for_the_hub(tmp_path):
    """Timm builds it from the folder alone, with other classes too, and a run can begin with it."""
    (tmp_path / "data").mkdir()
    for seed in range(8):
        picture(seed, 48).save(tmp_path / "data" / f"{seed}.png")
    values = {"model.encoder": "test_vit", "data.image_size": 48, "train.epochs": 0, "train.batch_size": 8}
    run = isosphere.load(train_tiny(tmp_path / "run", tmp_path / "data", **values), device="cpu")
    made = export(run, "hub")
    folder = tmp_path / "run" / "export" / "hub"
    assert {file.name for file in made.files} == {path.name for path in folder.iterdir()}
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    x = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(network(x), run.encoder.eval()(x))
    assert tuple(network.pretrained_cfg["mean"]) == run.encoder.mean
    assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)(x).shape == (2, 5)
    same_of_every_kind(run, made.snippet)
    for init in (folder, f"local-dir:{folder}", folder / "model.safetensors"):
        begun = build_encoder(None, init=init)
        assert (begun.name, begun.image_size, begun.assumed) == ("test_vit", 48, False)
        assert all(
            torch.equal(a, b) for a, b in zip(begun.parameters(), run.encoder.parameters(), strict=True)
        )
    card = (folder / "README.md").read_text()
    assert str(tmp_path) not in card + (folder / "config.json").read_text()
    for said in (
        "license: unknown",
        "Images: data",
        "Method: kl-vmf",
        "Yours to write",
        "hf-hub:YOUR_NAME/run",
    ):
        assert said in card
    as_it_is = isosphere.load(f"timm:test_vit@{folder / 'model.safetensors'}", device="cpu", cache=False)
    with pytest.raises(UsageError, match="hub is for networks that were trained here"):
        as_it_is.export("hub", tmp_path / "again")
    (folder / "README.md").write_text("mine")
    export(run, "hub")
    assert (folder / "README.md").read_text() == "mine", "what somebody has written is kept"
    with pytest.raises(UsageError, match=r"config\.json exists: add overwrite=True"):
        export(run, "hub", folder)


def test_the_card_has_the_figures_of_these_weights(trained, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    run = isosphere.load(tmp_path / "run", device="cpu", cache=False)
    figures = (Figure("trained", "backbone", "accuracy", Estimate(0.5, 0.4, 0.6)),)
    of_others = TaskResult("linear", figures, {}, data="elsewhere/pictures", weights="of others")
    update_results(run.folder, [TaskResult("knn", figures, {}, "elsewhere/pictures", run.weights), of_others])
    card = model_card(run, "run")
    assert "| knn | pictures | trained backbone | accuracy | 0.500 [0.400, 0.600] |" in card
    assert "linear" not in card


@pytest.mark.parametrize(
    ("format", "options", "words"),
    [
        ("timm", {}, "timm has no such network"),
        ("hub", {}, "timm has no such network"),
        ("hub", {"layer": "head"}, "backbone alone"),
        ("onyx", {}, "Did you mean 'onnx'"),
        ("safetensors", {"out": "e.pt"}, r"ends in \.safetensors"),
        ("safetensors", {"layer": "head"}, "backbone alone"),
        ("timm", {"opset": 18}, r"opset=18 belongs to the format onnx"),
        ("safetensors", {"dynamic_size": True}, r"dynamic_size=True belongs to the format onnx"),
    ],
)
def test_refusals(run, format, options, words):
    with pytest.raises(UsageError, match=words):
        export(run, format, **options)


@pytest.mark.parametrize("name", ["e.safetensors", "e.json", "e.py"])
def test_what_is_there_is_replaced_if_that_is_asked_for(run, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match=rf"{name} exists: add overwrite=True"):
        export(run, "safetensors", tmp_path / "e.safetensors")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "precious")]
    export(run, "safetensors", tmp_path / "e.safetensors", overwrite=True)
    assert json.loads((tmp_path / "e.json").read_text())["name"] == "small-conv"


@pytest.mark.parametrize(
    "name", ["encoder.safetensors", "method.safetensors", "checkpoints/epoch-0001.safetensors"]
)
def test_the_files_of_a_run_are_never_replaced(run, name):
    before = run.folder.encoder.read_bytes()
    with pytest.raises(UsageError, match="belongs to the run"):
        export(run, "safetensors", run.folder.path / name, overwrite=True)
    assert run.folder.encoder.read_bytes() == before
