"""Images in containers, from training to search, as a user types it."""

import tarfile

import numpy as np
import pytest

from isosphere.data import fingerprint, open_source
from isosphere.runs import RunFolder


@pytest.fixture
def shards(classes, tmp_path):
    """The two classes of images in four shards, labelled by .cls."""
    folder = tmp_path / "shards"
    folder.mkdir()
    files = sorted(classes.rglob("*.png"), key=lambda file: int(file.stem))
    for k in range(4):
        with tarfile.open(folder / f"train-{k:03d}.tar", "w") as archive:
            for file in files[15 * k : 15 * k + 15]:
                label = file.with_suffix(".cls")
                label.write_text(file.parent.name)
                archive.add(file, file.name)
                archive.add(label, label.name)
                label.unlink()
    return folder


def test_shards_are_trained_on_judged_and_searched(run, shards, quick):
    pattern = f"{shards}/train-{{000..003}}.tar"
    done = run("train", pattern, "--out", "r", *quick, "--set", "data.epoch_images=24")
    assert done.code == 0, done.err
    assert "60 images of 16 px" in done.out
    assert "1 epoch of 3 steps" in done.out
    again = run("train", pattern, "--out", "r", "--resume", "--epochs=2")
    assert "Trained 2 epochs (6 steps)" in again.out
    refused = run("train", pattern, "--out", "r", "--resume", "--set", "data.epoch_images=32")
    assert refused.code == 2
    assert "has data.epoch_images = 24, and now 32 is asked for" in refused.err
    judged = run("evaluate", "r", shards, "--tasks=knn")
    assert judged.code == 0, judged.err
    assert "80/20, stratified" in judged.out
    assert run("embed", "r", shards, "--out", "e.npz").code == 0
    found = run("search", "r", shards / "train-000.tar", "--in", shards, "-k", 1)
    assert found.out.count("Like ") == 15


def test_braces_that_a_shell_has_written_out_are_the_same_images(run, shards, quick):
    words = [shards / f"train-00{k}.tar" for k in range(2)]
    assert run("train", *words, "--out", "r", *quick).code == 0
    record = RunFolder("r").read_images()
    assert record["source"] == " + ".join(map(str, words))
    assert record["fingerprint"] == fingerprint(
        open_source(f"{shards}/train-{{000..001}}.tar", split="train")
    )
    asked = run("evaluate", "r", words[0], "--test", *words)
    assert asked.code == 2
    assert "Quote a pattern ('s-{000..003}.tar'), and several sources as one: 'A + B'." in asked.err
    many = run("train", *[shards / f"{k}.tar" for k in range(101)], "--out", "s", *quick)
    assert many.code == 2
    assert "101 names were given" in many.err
    assert "put the pattern in quotes" in many.err


def test_hdf5_is_trained_on_and_judged(run, quick, tmp_path):
    h5py = pytest.importorskip("h5py")
    labels = np.arange(40) % 2
    noise = np.random.default_rng(0).integers(0, 120, (40, 24, 24, 3))
    with h5py.File(tmp_path / "Galaxy10.h5", "w") as archive:
        images = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
        archive.create_dataset("images", data=images, chunks=(16, 8, 8, 1), compression="gzip")
        archive.create_dataset("ans", data=labels)
    done = run("train", f"galaxy10:{tmp_path}", "--out", "r", *quick)
    assert done.code == 0, done.err
    assert "40 images of 24 px" in done.out
    judged = run("evaluate", "r", tmp_path / "Galaxy10.h5", "--tasks=knn")
    assert judged.code == 0, judged.err
    assert run("train", f"galaxy10:{tmp_path}/absent", "--out", "s", *quick).code == 2


def test_some_classes_are_trained_on_and_judged(run, split, quick, tmp_path):
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("red  # alone\n")
    done = run("train", split, "--out", "r", *quick, "--set", f"data.classes={chosen}")
    assert done.code == 0, done.err
    assert f"15 images of 16 px from {split}?classes={chosen}" in done.out
    assert f"isosphere train '{split}?classes={chosen}' --out r --resume" in done.out
    chosen.write_text("red\nblue\n")
    judged = run("evaluate", "r", f"{split}?classes={chosen}", "--tasks=knn")
    assert judged.code == 0, judged.err
    chosen.write_text("rad\n")
    refused = run("train", split, "--out", "s", *quick, "--set", f"data.classes={chosen}")
    assert refused.code == 2
    assert "Did you mean 'red'?" in refused.err
