"""Data sets known by name, read from small files in their own formats that the tests write."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torchvision.datasets as tv

from isosphere.data import _builtin, open_source
from isosphere.data._builtin import TORCHVISION
from isosphere.errors import UsageError

RNG = np.random.default_rng(0)


def md5(path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar(root, monkeypatch, name):
    """Pickles of flat rows, red plane first; torchvision reads them only if it knows their sums."""
    fine = name == "CIFAR100"
    folder = root / getattr(tv, name).base_folder
    folder.mkdir()
    truth = {"train": ([], []), "test": ([], [])}
    for part, entries in (("train", getattr(tv, name).train_list), ("test", getattr(tv, name).test_list)):
        sums = []
        for file, _ in entries:
            rows, labels = RNG.integers(0, 256, (4, 3072), dtype=np.uint8), [3, 1, 0, 3]
            body = {"data": rows, "fine_labels" if fine else "labels": labels}
            (folder / file).write_bytes(pickle.dumps(body))
            sums.append([file, md5(folder / file)])
            truth[part][0].append(rows.reshape(4, 3, 32, 32))
            truth[part][1].extend(labels)
        monkeypatch.setattr(getattr(tv, name), f"{part}_list", sums)
    meta = dict(getattr(tv, name).meta)
    names = [f"class {k}" for k in range(100 if fine else 10)]
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: names}))
    monkeypatch.setattr(getattr(tv, name), "meta", meta | {"md5": md5(folder / meta["filename"])})
    return {part: (np.concatenate(x), y) for part, (x, y) in truth.items()}, names


def write_mnist(root, monkeypatch, name):
    """Big-endian idx files: a magic number, the sizes, the bytes."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    truth = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        x, y = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.array([5, 0, 4, 1, 9, 2], np.uint8)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *x.shape) + x.tobytes())
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(y)) + y.tobytes())
        truth[part] = (np.repeat(x[:, None], 3, axis=1), y.tolist())
    return truth, getattr(tv, name).classes


def write_stl10(root, monkeypatch, name):
    """Column-major planes and labels that count from one."""
    folder = root / tv.STL10.base_folder
    folder.mkdir()
    truth = {}
    for part in ("train", "test"):
        x, y = RNG.integers(0, 256, (3, 3, 96, 96), dtype=np.uint8), np.array([10, 1, 3], np.uint8)
        (folder / f"{part}_X.bin").write_bytes(x.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes(y.tobytes())
        truth[part] = (x, (y.astype(int) - 1).tolist())
    unlabelled = RNG.integers(0, 256, (5, 3, 96, 96), dtype=np.uint8)
    (folder / "unlabeled_X.bin").write_bytes(unlabelled.transpose(0, 1, 3, 2).tobytes())
    if name == "STL10-unlabeled":
        x, y = truth["train"]
        truth["train"] = (np.concatenate([x, unlabelled]), y + [-1] * 5)
    names = [f"thing{k}" for k in range(10)]
    (folder / "class_names.txt").write_text("\n".join(names))
    lists = {
        part: [[f, md5(folder / f)] for f in (f"{part}_X.bin", f"{part}_y.bin")] for part in ("train", "test")
    }
    lists["train"].append(["unlabeled_X.bin", md5(folder / "unlabeled_X.bin")])
    monkeypatch.setattr(tv.STL10, "train_list", lists["train"])
    monkeypatch.setattr(tv.STL10, "test_list", lists["test"])
    return truth, names


def write_svhn(root, monkeypatch, name):
    """Matlab files, images along the last axis, the digit zero labelled ten."""
    io = pytest.importorskip("scipy.io")
    truth, sums = {}, dict(tv.SVHN.split_list)
    for part in ("train", "test"):
        x, y = RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8), np.array([10, 1, 9, 10], np.uint8)
        file = root / f"{part}_32x32.mat"
        io.savemat(file, {"X": x.transpose(2, 3, 1, 0), "y": y[:, None]})
        sums[part] = [tv.SVHN.split_list[part][0], file.name, md5(file)]
        truth[part] = (x, [0, 1, 9, 0])
    monkeypatch.setattr(tv.SVHN, "split_list", sums)
    return truth, [str(k) for k in range(10)]


WRITERS = {
    "CIFAR10": write_cifar,
    "CIFAR100": write_cifar,
    "FashionMNIST": write_mnist,
    "KMNIST": write_mnist,
    "MNIST": write_mnist,
    "STL10": write_stl10,
    "STL10-unlabeled": write_stl10,
    "SVHN": write_svhn,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_sets_are_read_from_their_own_files(name, tmp_path, monkeypatch):
    truth, names = WRITERS[name](tmp_path, monkeypatch, name)
    for part in ("train", "test"):
        images, labels = truth[part]
        source = open_source(f"torchvision:{name}:{tmp_path}", split=part)
        assert source.name == name
        assert source.labels.tolist() == list(labels)
        assert source.class_names == list(names)
        assert source.has_test_split
        for i in range(len(images)):
            np.testing.assert_array_equal(source.read(i), images[i])
    both = open_source(f"torchvision:{name}:{tmp_path}")
    assert len(both) == sum(len(x) for x, _ in truth.values())
    assert both.paths[-1] == f"{name}/test/{len(truth['test'][0]) - 1}"


@pytest.mark.parametrize("name", TORCHVISION)
def test_absent_files_say_how_to_fetch_them(name, tmp_path):
    with pytest.raises(UsageError, match=rf"torchvision:{name}:.* cannot be opened") as refused:
        open_source(f"torchvision:{name}:{tmp_path}")
    assert f"from torchvision.datasets import {name.partition('-')[0]};" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_changed_pickle_is_not_loaded(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, "CIFAR10")
    file = tmp_path / tv.CIFAR10.base_folder / tv.CIFAR10.train_list[0][0]

    class Evil:
        def __reduce__(self):
            return (file.with_suffix(".ran").write_text, ("code ran",))

    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="cannot be opened"):
        open_source(f"torchvision:CIFAR10:{tmp_path}")
    assert not file.with_suffix(".ran").exists()


def test_unknown_names_and_paths_are_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"torchvision:CIFAR11 is not one of CIFAR10, .*Did you mean 'CIFAR10'"
    ):
        open_source(f"torchvision:CIFAR11:{tmp_path}")
    with pytest.raises(UsageError, match="Data sets of image files are opened as folders"):
        open_source(f"torchvision:Food101:{tmp_path}")
    for spec in ("torchvision:MNIST", f"torchvision:MNIST:{tmp_path}/absent"):
        with pytest.raises(UsageError, match="names no folder; expected torchvision:MNIST:PATH"):
            open_source(spec)


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    pack = datasets.load_digits()
    train, test, both = (open_source("digits", split=s) for s in ("train", "test", None))
    assert (len(train), len(test), len(both)) == (1437, 360, 1797)
    assert both.class_names == [str(k) for k in range(10)]
    assert np.array_equal(both.labels, pack.target)
    assert np.array_equal(test.labels, pack.target[1437:])
    assert test.paths[0] == "digits/1437"
    np.testing.assert_allclose(test.read(5)[0], pack.images[1442] * 255 / 16, atol=0.5)
    assert train.has_test_split


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setattr(_builtin, "find_spec", lambda name: None)
    monkeypatch.setattr(_builtin, "_digits", _builtin._digits.__wrapped__)
    with pytest.raises(UsageError, match="pip install scikit-learn; or use textures:wood"):
        open_source("digits")
