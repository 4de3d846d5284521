"""Trainings that begin with given weights: the head first, two rates, and an end that is no worse than the start."""

import json

import numpy as np
import pytest
import torch

from isosphere.errors import UsageError
from isosphere.models import Encoder, build_encoder
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import Callback, build, fit, load_config, load_method, prepare
from isosphere.training import _setup as setup
from isosphere.training._beginning import END, START, Seen, choose, mixture
from isosphere.training._defaults import resolve_sizes

IMAGES, BATCH, STEPS = 72, 16, 4


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Coloured noise, and weights to begin with whose running statistics are not those of a new network."""
    path = tmp_path_factory.mktemp("material")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (IMAGES, 16, 16, 3), dtype=np.uint8)
    images += generator.integers(0, 190, (IMAGES, 1, 1, 3), dtype=np.uint8)
    np.savez(path / "images.npz", images=images)
    torch.manual_seed(1)
    encoder = build_encoder("small-conv", image_size=16)
    encoder(torch.randn(64, 3, 16, 16))
    torch.save(encoder.backbone.state_dict(), path / "weights.pth")
    return path


def config_of(material, *sets, method="kl-vmf"):
    given = {"data.source": str(material / "images.npz"), "model.init": str(material / "weights.pth")}
    given |= {"model.dim": 8, "model.hidden": 16, "method.name": method, "views.recipe": "crops"}
    given |= {"train.epochs": 3, "train.batch_size": BATCH, "train.precision": "float32", "data.held_out": 8}
    given |= {"train.tensorboard": False, "train.checkpoint_minutes": 0, "train.device": "cpu"}
    return load_config(None, [f"{key}={value}" for key, value in given.items()], base=None).replace(
        **_nested(sets)
    )


def _nested(sets):
    sections = {}
    for key, value in sets:
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    return sections


class Stop(Callback):
    """Stops after so many steps, as Ctrl-C would."""

    def __init__(self, after):
        self.after = after

    def on_step(self, progress):
        return progress.step == self.after


def train(config, path, **options):
    return trained(config, path, **options)[1:]


def trained(config, path, *, after=None, record=None):
    parts = prepare(config, record=record)
    folder = RunFolder.create(path, resume=True)
    folder.write_config(parts.config.as_mapping())
    args = parts.config, folder, parts.method, parts.loader, parts.views, parts.fabric
    stops = [] if after is None else [Stop(after)]
    summary = fit(*args, observer=parts.observer, facts=parts.identity, callbacks=stops)
    return summary, parts, folder


def start_of(folder):
    kept = folder.read_start()
    assert kept is not None
    return kept


def bits(folder):
    content = torch.load(folder.checkpoint, weights_only=True)
    return {**content["method"], **{f"o{k}": v for k, v in _flat(content["optimizer"]["state"]).items()}}


def _flat(state):
    return {f"{k}.{name}": x for k, moments in state.items() for name, x in moments.items()}


def different(a, b):
    assert a.keys() == b.keys()
    return [key for key, x in a.items() if torch.is_tensor(x) and not torch.equal(x, b[key])]


def test_what_is_left_open_with_weights():
    given = load_config(None, ["model.init=w.pth", "data.image_size=32"])
    model, optim, tr = (getattr(resolve_sizes(given), name) for name in ("model", "optim", "train"))
    assert (model.batch_norm, optim.learning_rate, optim.backbone_rate) == ("frozen", 1e-3, 1e-4)
    assert (tr.epochs, tr.head_epochs, tr.load_best) == (5, 1, True)
    slow = resolve_sizes(
        load_config(None, ["model.init=w.pth", "optim.learning_rate=1e-5", "train.epochs=1"])
    )
    assert (slow.optim.backbone_rate, slow.train.head_epochs) == (1e-5, 0)
    lars = resolve_sizes(load_config(None, ["model.init=w.pth", "optim.name=lars", "train.batch_size=256"]))
    assert lars.optim.backbone_rate == pytest.approx(0.02)
    own = [
        "model.batch_norm=train",
        "optim.backbone_rate=1e-2",
        "train.head_epochs=0",
        "train.load_best=false",
    ]
    kept = resolve_sizes(load_config(None, ["model.init=w.pth", *own]))
    assert (kept.model.batch_norm, kept.optim.backbone_rate) == ("train", 1e-2)
    assert (kept.train.head_epochs, kept.train.load_best) == (0, False)
    fresh = resolve_sizes(load_config(None, ["data.image_size=32"]))
    assert (fresh.model.batch_norm, fresh.optim.backbone_rate, fresh.train.head_epochs) == (None, None, None)
    assert fresh.train.load_best is None


@pytest.mark.parametrize("method", ["kl-vmf", "byol"])
def test_the_head_learns_first_and_batch_norm_never(material, tmp_path, method):
    config = config_of(material, method=method)
    parts, folder = train(config, tmp_path / "run", after=STEPS)
    start, then = start_of(folder), bits(folder)
    moved = {key for key, x in start.items() if not torch.equal(x, then[key])}
    assert any(key.startswith("head.") for key in moved)
    assert not any(key.startswith(("encoder.", "teacher.module.0.")) for key in moved)
    parts, folder = train(parts.config, folder.path, record=folder.read_spec())
    end = bits(folder)
    moved = {key for key, x in start_of(folder).items() if not torch.equal(x, end[key])}
    assert "encoder.backbone.layers.0.0.weight" in moved
    assert not any(
        ".layers.0.1." in key for key in moved if key.startswith(("encoder.", "teacher.module.0."))
    )
    if method == "byol":
        assert "teacher.module.0.backbone.layers.0.0.weight" in moved
    spoken = [row["learning_rate"] for row in read_metrics(folder.metrics)]
    assert len(spoken) >= 4


def test_the_start_has_a_row(material, tmp_path):
    _, folder = train(config_of(material), tmp_path / "run")
    first, *others = read_metrics(folder.metrics)
    assert (first["epoch"], first["step"], first["total"]) == ("0", "0", "")
    assert float(first["neighbours_kept"]) == 1
    assert 0 < float(first["two_view_recall"]) <= 1
    rows = {row["epoch"]: row for row in others}
    assert float(rows["1"]["neighbours_kept"]) == 1  # the head alone has learned
    assert rows["1"]["two_view_recall"] == first["two_view_recall"]
    assert all("neighbours_kept" in row for row in others)


@pytest.mark.parametrize("method", ["kl-vmf", "byol"])
def test_resumed_is_uninterrupted_whatever_the_phase(material, tmp_path, method):
    config = config_of(material, method=method)
    _, whole = train(config, tmp_path / "whole")
    for after in (STEPS - 2, STEPS, STEPS + 1, 2 * STEPS):
        parts, folder = train(config, tmp_path / f"{after}", after=after)
        torch.manual_seed(after)
        train(parts.config, folder.path, record=folder.read_spec())
        assert different(bits(whole), bits(folder)) == [], after
        assert different(start_of(whole), start_of(folder)) == [], after
        assert different(whole.read_encoder()[0], folder.read_encoder()[0]) == [], after
        assert json.loads(whole.chosen.read_text()) == json.loads(folder.chosen.read_text())
        same = [[row["epoch"], row["total"], row["neighbours_kept"]] for row in read_metrics(whole.metrics)]
        assert same == [[r["epoch"], r["total"], r["neighbours_kept"]] for r in read_metrics(folder.metrics)]


def test_looking_and_choosing_change_no_bit_of_training(material, tmp_path):
    config = config_of(material)
    chosen, last, unseen = (
        train(config.replace(train=keys), tmp_path / name)
        for name, keys in {
            "chosen": {},
            "last": {"load_best": False},
            "unseen": {"load_best": False, "monitor": False},
        }.items()
    )
    assert different(bits(chosen[1]), bits(last[1])) == different(bits(chosen[1]), bits(unseen[1])) == []
    assert not last[1].chosen.exists()
    end, _ = last[1].read_encoder()
    assert different(end, {k[8:]: x for k, x in bits(last[1]).items() if k.startswith("encoder.")}) == []


def test_a_run_ends_with_what_was_chosen(material, tmp_path, monkeypatch):
    import isosphere.training._beginning as beginning

    for name in (START, "a mixture (50% of the end)", "epoch 2", END):
        with monkeypatch.context() as patch:
            patch.setattr(
                beginning, "choose", lambda found, name=name: beginning.Choice(name, "it is asked for")
            )
            config = config_of(material, ("train.keep_every", 2))
            summary, parts, folder = trained(config, tmp_path / name.replace("%", ""))
        assert summary.chosen == f"The run ends with the weights of {name}: it is asked for."
        assert folder.read_chosen()["why"] == "it is asked for"
        state, spec = folder.read_encoder()
        assert spec["weights"] == name
        key = "backbone.layers.4.0.weight"
        start, end = start_of(folder)[f"encoder.{key}"], bits(folder)[f"encoder.{key}"]
        expected = {
            START: start,
            END: end,
            "epoch 2": folder.read_kept(2)[f"encoder.{key}"],
        }.get(name, start.lerp(end, 0.5))
        assert torch.equal(state[key], expected)
        assert torch.equal(parts.method.encoder.state_dict()[key], expected)
        _, method = load_method(folder)
        assert all(p.requires_grad for p in method.encoder.parameters())
        seen = json.loads(folder.chosen.read_text())
        names = [START, "epoch 2", *(f"a mixture ({share}% of the end)" for share in (25, 50, 75)), END]
        assert (seen["weights"], [row["weights"] for row in seen["seen"]]) == (name, names)


def seen(hits, kept):
    return Seen(torch.tensor(hits, dtype=torch.float64), torch.full((len(hits),), kept).double(), 3.0)


def test_the_start_stays_unless_others_are_clearly_better():
    poor, good = [1.0, 0.0, 0.0, 0.0] * 10, [1.0, 1.0, 1.0, 0.0] * 10
    a_little = [1.0, 1.0, 1.0, 0.0] + [0.0] * 4 + [1.0, 0.0, 0.0, 0.0] * 8
    assert choose({START: seen(poor, 1.0), END: seen(good, 0.9)}).name == END
    assert "75.0 %, at the start in 25.0 %" in choose({START: seen(poor, 1.0), END: seen(good, 0.9)}).why
    assert choose({START: seen(poor, 1.0), END: seen(a_little, 0.9)}).name == START
    assert choose({START: seen(good, 1.0), END: seen(poor, 0.9)}).name == START
    assert choose({START: seen(good, 1.0), END: seen(good, 1.0)}).name == START
    ruined = choose({START: seen(poor, 1.0), END: seen(good, 0.2)})
    assert ruined.name == START
    assert "keep less than" in ruined.why
    most = [1.0, 1.0, 1.0, 1.0] * 10
    found = {START: seen(poor, 1.0), "epoch 1": seen(most, 0.8), END: seen(good, 0.9)}
    assert choose(found).name == "epoch 1"


def test_a_mixture_is_on_the_line():
    start = {"w": torch.zeros(2), "n": torch.tensor(3)}
    end = {"w": torch.ones(2), "n": torch.tensor(5)}
    assert mixture(start, end, 0.25)["w"].tolist() == [0.25, 0.25]
    assert mixture(start, end, 0.25)["n"] == 5


def test_a_run_of_an_earlier_version_goes_on_as_it_was(material, tmp_path):
    """Its config.yaml has none of the keys: batch norm in training mode, one rate, and no weights but the last."""
    former = [("model.batch_norm", "train"), ("train.head_epochs", 0), ("train.load_best", False)]
    config = config_of(material, *former, ("train.epochs", 1), ("optim.backbone_rate", 1e-3))
    parts = prepare(config)
    old = parts.config.replace(optim={"backbone_rate": None}, train={"epochs": 2})
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(old.as_mapping())
    args = folder, parts.method, parts.loader, parts.views, parts.fabric
    fit(parts.config.replace(optim={"backbone_rate": None}), *args, facts=parts.identity)
    folder.start.unlink(missing_ok=True)
    new = {"batch_norm", "freeze", "head_epochs", "load_best", "backbone_rate", "layer_decay"}
    saved = {
        section: {k: v for k, v in keys.items() if k not in new} for section, keys in old.as_mapping().items()
    }
    before = bits(folder)
    parts, folder = train(load_config(base=saved), folder.path, record=folder.read_spec())
    assert parts.config.model.batch_norm is None
    assert len(torch.load(folder.checkpoint, weights_only=True)["optimizer"]["param_groups"]) == 2
    assert "encoder.backbone.layers.0.1.running_mean" in different(before, bits(folder))
    assert folder.read_encoder()[1]["weights"] == "student"


def test_a_method_without_a_head_has_no_epochs_of_the_head(material):
    config = prepare(config_of(material)).config
    bare = build(config)[1]
    bare.head.requires_grad_(False)
    assert setup._check_head(config, bare, None).train.head_epochs == 0
    with pytest.raises(UsageError, match="has no head that could learn alone"):
        setup._check_head(config, bare, 1)


def test_teachers_are_frozen_too(material):
    parts = prepare(config_of(material, ("model.freeze", 2), method="byol"))
    encoders = [part for part in parts.method.modules() if isinstance(part, Encoder)]
    assert len(encoders) == 2
    for encoder in encoders:
        norms = [p for p in encoder.modules() if isinstance(p, torch.nn.BatchNorm2d)]
        assert norms
        assert not any(norm.training for norm in norms)
    free = [k for k, p in parts.method.encoder.named_parameters() if p.requires_grad]
    assert free == [f"backbone.layers.{k}.0.weight" for k in (2, 3, 4)]
