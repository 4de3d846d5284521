"""A bundle: what it computes is what the run computes, also where isosphere is not; what is not whole is named."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import isosphere
from isosphere.data import WHOLE, picture_reader
from isosphere.deploy import check_bundle, open_bundle
from isosphere.deploy._bundle import runtime_source
from isosphere.errors import RunError, UsageError

from .conftest import picture
from .service import ask, started

NAME = "test_efficientnet"
ISOSPHERE = (sys.executable, "-c", "from isosphere.cli import main; raise SystemExit(main())")


def test_the_file_that_uses_a_bundle_is_one_module_without_isosphere():
    tree = ast.parse(runtime_source())
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    } | {str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "PIL", "onnxruntime", "tifffile"}
    reader = ast.parse(picture_reader()).body

    def names(body):
        return [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]

    assert len(names(tree.body)) == len(set(names(tree.body)))
    assert set(names(reader)) < set(names(tree.body))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run that was adapted to 30 pictures in two classes, with a classifier, and its bundle."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    root = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSPHERE_CACHE", str(root / "cache"))
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            torch.save(timm.create_model(NAME, num_classes=10).state_dict(), root / "w.pth")
        for i in range(30):
            (root / "old" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
            ending = ("png", "jpg")[i % 3 == 0]
            picture(i, 60).resize((80, 50)).save(root / "old" / f"{i % 2}" / f"{i:02d}.{ending}")
        given = {
            "encoder": NAME,
            "init": root / "w.pth",
            "image_size": 32,
            "device": "cpu",
            "progress": False,
        }
        isosphere.adapt(root / "old", root / "run", **given)
        isosphere.update(root / "run", progress=False)
        isosphere.probe(root / "run", root / "old", progress=False)
        isosphere.bundle(root / "run", root / "served", progress=False)
        yield root


@pytest.fixture
def own(root, tmp_path):
    shutil.copytree(root / "served", tmp_path / "served")
    return tmp_path / "served"


def test_its_vectors_are_those_of_embed_its_matches_those_of_search(root):
    run, bundle = isosphere.load(root / "run", device="cpu"), open_bundle(root / "served")
    files = sorted((root / "old").rglob("*.*"))[:7]
    assert np.allclose(bundle.embed(files), run.embed(files), atol=1e-4)
    assert np.allclose(bundle.embed(files, whole=True), run.fitted(WHOLE).embed(files), atol=1e-4)
    assert np.allclose(np.linalg.norm(bundle.embed(files), axis=1), 1, atol=1e-5)
    index = run.index(root / "old")
    assert np.array_equal(bundle.vectors, index.unit)
    for file in files:
        ours, theirs = run.search([file], index, k=4)[0], bundle.search(file, 4)
        assert [m.path for m in ours] == [m["path"] for m in theirs]
        assert np.allclose([m.similarity for m in ours], [m["similarity"] for m in theirs], atol=1e-4)
        assert [m.label for m in ours] == [m["label"] for m in theirs]
        assert theirs[0]["copy"] is True
    from isosphere.workflows import Classifier, Collection

    classifier = Classifier.read(root / "run" / "probe.safetensors")
    expected = classifier.probabilities(run.embed(files, layer=classifier.layer))
    found = bundle.classify(files)
    assert np.allclose([list(each["probabilities"].values()) for each in found], expected, atol=1e-4)
    assert bundle.threshold == Collection.read(run.folder).thresholds["adapted"]
    assert bundle.network == run.identity
    assert len(bundle.check()) == 4


def test_it_runs_where_isosphere_and_torch_are_not(root, own):
    """In a Python that finds no torch and no isosphere: the check, and a search."""
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'isosphere', 'safetensors'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(own)!r})\n"
        "from bundle import Bundle, in_words\n"
        f"b = Bundle({str(own)!r})\n"
        "print(in_words(b)); print(b.search(sys.argv[1], k=1)[0]['path'])\n"
    )
    file = root / "old" / "1" / "05.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "10 reference vectors reproduced, largest difference" in done.stdout
    assert "(p95)" in done.stdout
    assert done.stdout.splitlines()[-1] == "1/05.png"
    moved = subprocess.run(
        [sys.executable, str(own / "bundle.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (moved.returncode, "reproduced" in moved.stdout) == (0, True), moved.stderr


def test_the_same_run_gives_the_same_bundle_and_no_path_of_this_machine(root, tmp_path):
    made = isosphere.bundle(root / "run", tmp_path / "again", progress=False)
    assert made.version == open_bundle(root / "served").version
    for file in (tmp_path / "again").rglob("*"):
        if file.is_file():
            assert str(root).encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "name", ["encoder.onnx", "vectors.npy", "images.json", "classifier.npz", "references.npz", "bundle.py"]
)
def test_a_bundle_that_is_not_whole_is_refused_by_the_name_of_the_file(own, name):
    file = own / name
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(RunError, match=rf"{name} is cut short"):
        open_bundle(own)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=rf"{name} is damaged"):
        open_bundle(own)
    file.unlink()
    with pytest.raises(RunError, match=rf"{name} is missing"):
        open_bundle(own)
    file.write_bytes(content)
    assert open_bundle(own).version
    (own / "bundle.json").unlink()
    with pytest.raises(RunError, match="not written to its end"):
        open_bundle(own)


def test_versions_are_not_mixed(own):
    """An index of another network in the place of this one's, with digests that fit."""
    from isosphere.deploy._runtime import digest_of, version_of

    images = json.loads((own / "images.json").read_text())
    (own / "images.json").write_text(json.dumps({**images, "network": "another"}))
    about = json.loads((own / "bundle.json").read_text())
    file = own / "images.json"
    about["files"]["images.json"] = {"bytes": file.stat().st_size, "sha256": digest_of(file)}
    (own / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match="version is not that of its files"):
        open_bundle(own)
    (own / "bundle.json").write_text(json.dumps({**about, "version": version_of(about["files"])}))
    with pytest.raises(RunError, match=r"images\.json is of another network"):
        open_bundle(own)


def test_a_bundle_of_another_reader_of_pictures_is_refused(own):
    about = json.loads((own / "bundle.json").read_text())
    (own / "bundle.json").write_text(json.dumps({**about, "pixels": about["pixels"] - 1}))
    with pytest.raises(RunError, match="reads pictures otherwise"):
        open_bundle(own)


def test_a_folder_that_is_taken_and_a_bundle_that_fails_lose_nothing(root, tmp_path, monkeypatch):
    run = root / "run"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("a")
    with pytest.raises(UsageError, match="not by a bundle"):
        check_bundle(tmp_path / "mine", overwrite=True)
    isosphere.bundle(run, tmp_path / "b", progress=False)
    before = (tmp_path / "b" / "bundle.json").read_bytes()
    with pytest.raises(UsageError, match="holds a bundle"):
        isosphere.bundle(run, tmp_path / "b", progress=False)
    from isosphere.deploy import _bundle

    with monkeypatch.context() as patch:
        patch.setattr(_bundle, "card", lambda about: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            isosphere.bundle(run, tmp_path / "b", overwrite=True, progress=False)
    assert (tmp_path / "b" / "bundle.json").read_bytes() == before
    (tmp_path / ".b.0123abcd.part").mkdir()  # as a kill leaves it
    isosphere.bundle(run, tmp_path / "b", overwrite=True, layer="backbone", progress=False)
    assert open_bundle(tmp_path / "b").layer == "backbone"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "mine"]


def test_a_classifier_of_another_network_stays_behind(root, tmp_path):
    from isosphere.runs import pack_tensors, read_tensors

    shutil.copytree(root / "run", tmp_path / "run")
    state, about = read_tensors(tmp_path / "run" / "probe.safetensors")
    other = tmp_path / "run" / "probe.safetensors"
    other.write_bytes(pack_tensors(state, {**about, "network": "another"}))
    made = isosphere.bundle(tmp_path / "run", tmp_path / "b", progress=False)
    assert "was left out" in made.remarks[0]
    assert open_bundle(made.folder).classifier is None
    with pytest.raises(UsageError, match="another network"):
        isosphere.bundle(tmp_path / "run", tmp_path / "c", classifier=other, progress=False)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("own", [True, False])
def test_copies_are_those_of_dedup_whatever_layer_is_searched(own, root, tmp_path):
    from isosphere.workflows import Collection

    run = isosphere.load(root / "run", device="cpu")
    kept = Collection.read(run.folder)
    layer = kept.copies if own else next(each for each in run.layers if each != kept.copies)
    isosphere.bundle(root / "run", tmp_path / "b", layer=layer, progress=False)
    bundle, index = open_bundle(tmp_path / "b"), run.index(root / "old", layer=kept.copies)
    assert (bundle.layer, bundle.threshold) == (layer, kept.thresholds[kept.copies])
    assert (tmp_path / "b" / "copies.npy").exists() is not own
    file = root / "old" / index.paths[3]
    expected = (index.unit @ index.unit[3] >= bundle.threshold - 1e-6).tolist()
    found = {match["path"]: match["copy"] for match in bundle.search(file, k=30)}
    assert found == dict(zip(index.paths, expected, strict=True))
    assert (
        "copy" in bundle.nearest(bundle.vectors[:1])[0][0]
    ) is own  # a vector of one layer says nothing of another
    with started([*ISOSPHERE, "serve", str(tmp_path / "b"), "--port", "0"]) as (_, port):
        matches = ask(port, "/search?k=30", file.read_bytes()).json["matches"]
    assert {match["path"]: match["copy"] for match in matches} == found
    if not own:
        (tmp_path / "b" / "copies.npy").write_bytes((tmp_path / "b" / "copies.npy").read_bytes()[:-8])
        with pytest.raises(RunError, match=r"copies\.npy is cut short"):
            open_bundle(tmp_path / "b")


def test_images_without_files_are_brought_along_as_png(root, tmp_path):
    data = np.stack([np.asarray(picture(i, 40)) for i in range(12)])
    np.savez(tmp_path / "data.npz", images=data)
    made = isosphere.bundle(root / "run", tmp_path / "b", str(tmp_path / "data.npz"), progress=False)
    assert made.images == 12
    assert sorted(p.suffix for p in (made.folder / "references").iterdir()) == [".png"] * 10
    assert made.check["difference"] <= 1e-4


def test_it_is_served_as_it_is(root):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    file = root / "old" / "0" / "04.png"
    bundle = open_bundle(root / "served")
    with started([*ISOSPHERE, "serve", str(root / "served"), "--port", "0"]) as (_, port):
        found = ask(port, "/embed", file.read_bytes())
        assert np.allclose(found.json["vector"], bundle.embed([file])[0], atol=1e-5)
        assert ask(port, "/search?k=1", file.read_bytes()).json["matches"][0]["path"] == "0/04.png"
        assert ask(port, "/classify", file.read_bytes()).json["label"] in ("0", "1")
        vector = {name: found.json[name] for name in ("vector", "network")}
        asked = ask(port, "/search?k=1", json.dumps(vector), content_type="application/json")
        assert asked.status == 200


def test_references_of_twelve_bits_are_read_as_the_run_reads_them(root, tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    for i in range(12):
        levels = np.asarray(picture(i, 30).convert("L")).astype(np.uint16) * 16
        Image.fromarray(levels).save(folder / f"{i}.png")
    made = isosphere.bundle(root / "run", tmp_path / "b", str(folder), progress=False)
    assert made.check["difference"] <= 1e-4
    about = json.loads((Path(made.folder) / "bundle.json").read_text())
    assert about["preprocessing"]["centre"]["white"] == 4095
