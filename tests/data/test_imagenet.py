"""ImageNet as it lies on disk, Tiny ImageNet, and some of their classes."""

import pytest

from isosphere.data import open_source
from isosphere.errors import UsageError

WNIDS = ("n01440764", "n01443537", "n02869837")


def refusal(spec, **options) -> str:
    with pytest.raises(UsageError) as refused:
        open_source(spec, **options)
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.fixture
def imagenet(make_folder):
    """Folders of classes in train/ and val/."""
    names = [f"{part}/{c}/{c}_{i}.png" for part in ("train", "val") for c in WNIDS for i in range(2)]
    return make_folder(names, under="imagenet")


def flat(make_folder):
    """Kaggle's form: validation and test images in one folder each, and a list of the first."""
    train = [f"ILSVRC/Data/CLS-LOC/train/{c}/{c}_{i}.png" for c in WNIDS for i in range(2)]
    rest = [
        f"ILSVRC/Data/CLS-LOC/{p}/ILSVRC2012_{p}_0000000{i}.png" for p in ("val", "test") for i in range(1, 4)
    ]
    folder = make_folder([*train, *rest], under="kaggle")
    (folder / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000003,n01440764 85 1 499 272 \n"
        "ILSVRC2012_val_00000001,n02869837 1 2 3 4 n02869837 1 2 3 4\n"
        "ILSVRC2012_val_00000002,n01443537\n"
    )
    return folder


def test_folders_of_classes(imagenet):
    train, test = open_source(imagenet, split="train"), open_source(imagenet, split="test")
    assert train.class_names == test.class_names == list(WNIDS)
    assert (len(train), len(test)) == (6, 6)


def test_flat_validation_images_are_labelled_by_the_list_beside_them(make_folder):
    folder = flat(make_folder)
    train, test = open_source(folder, split="train"), open_source(folder, split="test")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.class_names == list(WNIDS)
    assert [p.rpartition("/")[2] for p in test.paths] == [f"ILSVRC2012_val_0000000{i}.png" for i in (1, 2, 3)]
    assert test.labels.tolist() == [2, 1, 0]
    assert train.left_out == [("test/", "3 images outside train/ and val/")]
    assert test.read(0).shape == (3, 12, 12)


def test_tiny_imagenet(make_folder):
    train = [f"tiny/train/{c}/images/{c}_{i}.png" for c in WNIDS for i in range(2)]
    rest = [f"tiny/{p}/images/{p}_{i}.png" for p in ("val", "test") for i in range(2)]
    folder = make_folder([*train, *rest], under="pack")
    (folder / "tiny/val/val_annotations.txt").write_text(
        "val_0.png\tn02869837\t0\t0\t62\t62\nval_1.png\tn01440764\t1\t2\t3\t4\n"
    )
    test = open_source(folder, split="test")
    assert test.class_names == list(WNIDS)
    assert test.labels.tolist() == [2, 0]


def test_lists_of_something_else_change_nothing(imagenet):
    before = open_source(imagenet, split="test")
    (imagenet / "val.txt").write_text("n01440764_0.png nothing\nn01440764_1.png\n\x00\n")
    after = open_source(imagenet, split="test")
    assert after.paths == before.paths
    assert after.labels.tolist() == before.labels.tolist()


def test_some_classes_by_a_file(imagenet, tmp_path):
    (tmp_path / "in100.txt").write_text("# two of them\nn02869837 bonnet\n\nn01440764  # tench\n")
    spec = f"{imagenet}?classes={tmp_path}/in100.txt"
    train, test, both = (open_source(spec, split=s) for s in ("train", "test", None))
    assert train.class_names == test.class_names == ["n01440764", "n02869837"]
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert all("n01443537" not in path for path in both.paths)
    assert train.has_test_split
    assert (open_source(imagenet, split="train").read(4) == train.read(2)).all()


def test_class_lists_that_cannot_be_used(imagenet, make_folder, tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("n01440764\nn01440765\nbonnet\n")
    said = refusal(f"{imagenet}?classes={file}")
    assert (
        "names 'n01440765', and 2 of its 3 names are none of the 3 classes of imagenet. Did you mean 'n01440764'?"
        in said
    )
    file.write_text("n01440765")
    assert "and this name is none of the 3 classes" in refusal(f"{imagenet}?classes={file}")
    file.write_text("# nothing\n")
    assert "names no class; expected one name a line" in refusal(f"{imagenet}?classes={file}")
    assert "cannot be read (no such file or directory)" in refusal(f"{imagenet}?classes={tmp_path}/absent")
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read (it is not text in UTF-8)" in refusal(f"{imagenet}?classes={file}")
    file.write_text("cat")
    assert "has no classes, and the class list" in refusal(
        f"{make_folder(['a.png', 'b.png'])}?classes={file}"
    )
