"""Weights are found in the checkpoints that people have, all of them or none are taken, and nothing is unpickled."""

import argparse
import pathlib
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from isosphere.errors import RunError, UsageError
from isosphere.models import build_encoder, load_weights

NAME = "test_vit"


def encoder(name=NAME, size=32):
    return build_encoder(name, image_size=size)


@pytest.fixture
def taught():
    """A network with weights of its own, and those of another, which follows it."""
    torch.manual_seed(1)
    student, teacher = encoder(), encoder()
    return student.backbone.state_dict(), teacher.backbone.state_dict()


def behind(prefix, state):
    return {prefix + key: x for key, x in state.items()}


def saved(path, content):
    torch.save(content, path)
    return path


# Which of the two networks is taken, and what of the message names it.
CHECKPOINTS = {
    "plain": (lambda s, t: s, 0, "weights.pth"),
    "ordered": (lambda s, t: OrderedDict(s), 0, "weights.pth"),
    "module.": (lambda s, t: {"state_dict": behind("module.", s)}, 0, "state_dict.module"),
    "compiled": (lambda s, t: behind("_orig_mod.", s), 0, "weights.pth"),
    "compiled within": (
        lambda s, t: {k.replace("blocks.0.", "blocks.0._orig_mod."): x for k, x in s.items()},
        0,
        "weights.pth",
    ),
    "Lightning": (
        lambda s, t: {
            "state_dict": {**behind("model.backbone.", s), "model.head.weight": torch.ones(3)},
            "pytorch-lightning_version": "2.1",
            "hyper_parameters": defaultdict(list, lr=[np.float64(0.1)]),
            "optimizer_states": [{"state": {0: {"step": torch.ones(())}}}],
        },
        0,
        "state_dict.model.backbone",
    ),
    "solo-learn": (
        lambda s, t: {"state_dict": {**behind("momentum_backbone.", t), **behind("backbone.", s)}},
        0,
        "state_dict.backbone, not of state_dict.momentum_backbone",
    ),
    "lightly": (
        lambda s, t: {"state_dict": {**behind("backbone_momentum.", t), **behind("backbone.", s)}},
        0,
        "state_dict.backbone, not of",
    ),
    "MoCo": (
        lambda s, t: {
            "arch": "vit",
            "state_dict": {**behind("module.encoder_k.", t), **behind("module.encoder_q.", s)},
        },
        0,
        "module.encoder_q, not of state_dict.module.encoder_k",
    ),
    "DINO": (
        lambda s, t: {
            "student": behind("module.backbone.", s),
            "teacher": {**behind("backbone.", t), "head.last_layer.weight": torch.ones(2)},
            "args": argparse.Namespace(arch="vit", output=pathlib.PurePosixPath("x")),
        },
        1,
        "teacher.backbone, not of student.module.backbone",
    ),
    "I-JEPA": (
        lambda s, t: {"encoder": behind("module.", s), "target_encoder": behind("module.", t), "epoch": 3},
        1,
        "target_encoder.module, not of encoder.module",
    ),
    "ours": (
        lambda s, t: {
            "format": 1,
            "method": {**behind("teacher.module.backbone.", t), **behind("encoder.backbone.", s)},
        },
        0,
        "method.encoder.backbone, not of method.teacher.module.backbone",
    ),
    "stable-pretraining": (
        lambda s, t: {"state_dict": {**behind("backbone.student.", s), **behind("backbone.teacher.", t)}},
        1,
        "backbone.teacher, not of state_dict.backbone.student",
    ),
    "lightly-train": (
        lambda s, t: {
            "state_dict": {
                **behind("_method.teacher_embedding_model.wrapped_model._model.", t),
                **behind("_method.student_embedding_model.wrapped_model._model.", s),
            }
        },
        1,
        "teacher_embedding_model.wrapped_model._model, not of",
    ),
    "a model of a model": (
        lambda s, t: {"net": {"module": behind("model.encoder.", s)}},
        0,
        "net.module.model.encoder",
    ),
    "integer keys beside it": (lambda s, t: {0: 1, "model": {**s, 7: torch.ones(1)}}, 0, "those of model"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_every_kind(tmp_path, taught, kind):
    make, which, said = CHECKPOINTS[kind]
    fresh = encoder()
    assert said in load_weights(fresh, saved(tmp_path / "weights.pth", make(*taught)))
    for key, value in fresh.backbone.state_dict().items():
        assert torch.equal(value, taught[which][key]), key


def test_by_content_whatever_the_suffix(tmp_path, taught):
    save_file(behind("backbone.", taught[0]), tmp_path / "weights.bin")
    assert "those of backbone" in load_weights(encoder(), tmp_path / "weights.bin")
    torch.save(taught[0], tmp_path / "old.tar", _use_new_zipfile_serialization=False)
    assert "weights" not in (said := load_weights(encoder(), tmp_path / "old.tar"))
    assert said.startswith("all ")


def test_a_network_that_was_cut_into_a_sequence(tmp_path):
    whole = build_encoder("test_resnet", image_size=32)
    state = nn.Sequential(*list(whole.backbone.children())[:-1]).state_dict()
    path = saved(tmp_path / "lightly.ckpt", {"state_dict": behind("backbone.", state)})
    fresh = build_encoder("test_resnet", image_size=32, init=path)
    for key, value in fresh.backbone.state_dict().items():
        assert torch.equal(value, whole.backbone.state_dict()[key]), key


def test_the_stem_is_that_of_the_weights(tmp_path):
    """A residual network of photographs at 64 px keeps its 7x7 convolution, one of small images its 3x3 at 96."""
    for trained_at, used_at in ((96, 64), (64, 96)):
        trained = build_encoder("resnet18", image_size=trained_at)
        path = saved(tmp_path / f"{trained_at}.pth", trained.backbone.state_dict())
        fresh = build_encoder("resnet18", image_size=used_at, init=path)
        assert fresh.stem == trained.stem
        assert torch.equal(fresh.backbone.conv1.weight, trained.backbone.conv1.weight)


def test_old_files_lack_counts_of_batches(tmp_path):
    state = build_encoder("small-conv", image_size=32).backbone.state_dict()
    old = {key: x for key, x in state.items() if not key.endswith("num_batches_tracked")}
    assert "all 25 tensors" in load_weights(encoder("small-conv"), saved(tmp_path / "old.pth", old))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: {k: x for k, x in s.items() if k not in ("norm.weight", "norm.bias")},
            r"leaves 2 tensors of test_vit without weights: norm\.weight \(absent\), norm\.bias \(absent\)\.",
        ),
        (lambda s: s | {"pos_embed": torch.zeros(1, 103, 64)}, r": pos_embed \(1x103x64 in the file, 1x5x64 here\)\."),
        (lambda s: s | {"norm.bias": torch.zeros(64, dtype=torch.int64)}, r"norm\.bias \(of torch\.int64"),
        (lambda s: behind("a.", dict(list(s.items())[:4])), r"holds 4 of .* has a\..*; test_vit has cls_token"),
        (lambda s: {"layer.weight": torch.ones(2)}, r"holds 0 of the .* The file has layer\.weight; test_vit has"),
        (lambda s: s | {"norm.bias": torch.full((64,), torch.nan)}, r"not finite, in norm\.bias"),
        (lambda s: s | {"norm.bias": torch.full((64,), 1e300, dtype=torch.float64)}, r"not finite, in norm\.bias"),
        (lambda s: {k: torch.zeros_like(x) for k, x in s.items()}, "holds zeros alone: these are no trained weights"),
        (lambda s: [s], "holds a list, expected tensors by name"),
        (lambda s: {"epoch": 3, 5: s}, "holds a dict with epoch, int, expected tensors by name"),
        (lambda s: torch.ones(3), "holds a Tensor, expected"),
        (lambda s: {k: x.to_sparse() for k, x in s.items()}, "expected tensors by name"),
    ],
)  # fmt: skip
def test_nothing_is_left_without_weights(tmp_path, taught, change, said):
    fresh = encoder()
    before = {key: x.clone() for key, x in fresh.backbone.state_dict().items()}
    path = saved(tmp_path / "weights.pth", change(dict(taught[0])))
    with pytest.raises((UsageError, RunError), match=said):
        load_weights(fresh, path)
    assert all(torch.equal(x, before[key]) for key, x in fresh.backbone.state_dict().items())


def test_a_mapping_within_itself(tmp_path, taught):
    turning: dict = {"state_dict": {}}
    turning["state_dict"]["state_dict"] = turning
    with pytest.raises(RunError, match="expected tensors by name"):
        load_weights(encoder(), saved(tmp_path / "turning.pth", turning))
    turning["model"] = dict(taught[0])
    assert "those of model" in load_weights(encoder(), saved(tmp_path / "turning.pth", turning))
    deep: dict = dict(taught[0])
    for _ in range(200):
        deep = {"x": deep}
    assert load_weights(encoder(), saved(tmp_path / "deep.pth", deep)).startswith("all ")


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("kind", ["zip", "safetensors", "old"])
def test_files_that_are_cut_short(tmp_path, taught, kind):
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(taught[0], path)
    else:
        torch.save(taught[0], path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    for part in (0, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:part])
        with pytest.raises(RunError, match="it is damaged or cut short"):
            load_weights(encoder(), path)


def test_no_code_is_run(tmp_path, taught, capsys):
    for old in (False, True):
        path = tmp_path / "evil.pth"
        torch.save({**taught[0], "x": Evil()}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(RunError, match="could not be read as weights"):
            load_weights(encoder(), path)
    with pytest.raises(
        RunError, match=r"pickled objects \(.*torch\.nn.*\), which can run code. Save the tensors"
    ):
        load_weights(encoder(), saved(tmp_path / "whole.pth", encoder().backbone))
    assert "run" not in capsys.readouterr().out


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path, taught):
    import zipfile

    torch.save(taught[0], tmp_path / "weights.pth")
    with (
        zipfile.ZipFile(tmp_path / "weights.pth") as given,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in given.namelist():
            packed.writestr(name, given.read(name))
    with pytest.raises(RunError, match="could not be read as weights"):
        load_weights(encoder(), tmp_path / "packed.pth")


def test_no_file(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "encoder.safetensors").touch()
    with pytest.raises(
        UsageError, match=r"run is a folder without weights .* expected encoder\.safetensors with"
    ):
        build_encoder(NAME, image_size=32, init=tmp_path / "run")
    for path in ("/dev/zero", tmp_path / "absent"):
        with pytest.raises(UsageError, match="no file"):
            load_weights(encoder(), path)


@pytest.mark.parametrize("name", [NAME, "resnet18"])
@pytest.mark.parametrize("in_chans", [1, 5])
def test_weights_for_colours_are_adapted_to_other_channels_as_timm_does(tmp_path, name, in_chans):
    size = 32 if name == NAME else 96
    colours = encoder(name, size).eval()
    file = saved(tmp_path / "weights.pth", colours.backbone.state_dict())
    other = build_encoder(name, image_size=size, in_chans=in_chans, init=file).eval()
    grey = torch.rand(2, 1, size, size)
    with torch.no_grad():  # of equal channels the sums are the same
        same = other(grey.expand(-1, in_chans, -1, -1)) if in_chans == 1 else None
        expected = colours(grey.expand(-1, 3, -1, -1))
    assert same is None or torch.allclose(same, expected, atol=1e-4)
    key = "conv1.weight" if name == "resnet18" else "patch_embed.proj.weight"
    kernel, adapted = colours.backbone.state_dict()[key], other.backbone.state_dict()[key]
    if in_chans == 5:
        torch.testing.assert_close(adapted, kernel[:, [0, 1, 2, 0, 1]] * 3 / 5)
    assert len(other.mean) == in_chans
