"""Every preset resolves, also where its images are absent; the user's own settings win."""

import pytest
import timm
import yaml

from isosphere.data._recipes import recipe
from isosphere.errors import UsageError
from isosphere.methods import METHODS, weight_of_lambda
from isosphere.training import _setup as setup
from isosphere.training import load_config, parse_config, prepare_without_images, presets, read_preset
from isosphere.training._optimizer import build_optimizer

NAMES = sorted(presets())


@pytest.fixture
def small_networks(monkeypatch):
    """Stand-ins of the right kind for backbones of a hundred million parameters."""
    from isosphere.models import build_encoder

    monkeypatch.setattr(setup, "build_encoder", lambda name, **o: build_encoder("small-conv", image_size=32))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_resolves_without_images(name, small_networks):
    config = load_config(preset=name, sets=["data.source=/nowhere/at/all"])
    resolved, facts = prepare_without_images(config)
    assert resolved.method.name in METHODS
    assert facts["method"] == resolved.method.name
    assert resolved.model.encoder == "small-conv" or timm.is_model(resolved.model.encoder)
    assert resolved.train.batch_size
    assert resolved.train.epochs
    assert recipe(resolved.views.recipe, resolved.data.image_size, **resolved.views.overrides)
    assert parse_config(yaml.safe_load(yaml.safe_dump(resolved.as_mapping()))) == resolved
    _, method = setup.build(resolved)
    assert build_optimizer(method, resolved.optim)
    values = presets()[name].values
    for section, keys in values.items():
        for key, value in keys.items():
            got = getattr(getattr(resolved, section), key)
            if (section, key) not in (("data", "source"), ("model", "dim"), ("model", "hidden")):
                # Options may have been joined by those that the method chose.
                asked = {name: got[name] for name in value} if key == "options" else got
                assert asked == value, (section, key)


def test_every_data_set_and_system_of_the_papers_has_one():
    for data in ("imagenet1k", "imagenet100", "galaxy10", "cifar10", "cifar100", "stl10", "textures"):
        assert any(name.startswith(f"{data}-") for name in NAMES), data
    for method in (
        "lejepa",
        "sphere-jepa",
        "sphere-jepa-ema",
        "mmd-heat",
        "ksd-heat",
        "kl-heat",
        "byol",
        "vje",
    ):
        assert any(presets()[name].values["method"]["name"] == method for name in NAMES), method
    assert {"small", "cifar-small", "textures-small"} <= set(NAMES)


def test_lejepas_weight_is_its_lambda_converted():
    for name in NAMES:
        values = presets()[name].values
        if values["method"]["name"].startswith("lejepa"):
            published = 0.02 if name.startswith("imagenette") else 0.05
            expected = weight_of_lambda(published, "lejepa", dim=values["model"]["dim"])
            assert values["method"]["weight"] == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize("reading", ["sphere-jepa", "sphere-jepa-literal"])
def test_weights_of_the_family_are_its_lambda_by_both_readings(reading):
    found = 0
    for name in NAMES:
        values = presets()[name].values
        method, batch = values["method"]["name"], values["train"]["batch_size"]
        if not name.startswith(("galaxy10", "imagenet100", "textures-")) or name == "textures-small":
            continue
        literal = name.endswith("-literal")
        if method.startswith(("mmd-", "ksd-", "kl-")) and literal == reading.endswith("literal"):
            found += 1
            lam = 0.5 if method == "kl-heat" else 0.05
            expected = weight_of_lambda(lam, reading, dim=values["model"]["dim"], n=batch, discrepancy=method)
            assert values["method"]["weight"] == pytest.approx(expected, rel=1e-6), name
    assert found == 18


def test_a_literal_preset_differs_from_its_own_by_the_weight_alone():
    for name in NAMES:
        if name.endswith("-literal"):
            one, other = read_preset(name), read_preset(name.removesuffix("-literal"))
            assert one["method"].pop("weight") < other["method"].pop("weight")
            assert one == other
            assert "as printed" in presets()[name].about


def test_a_real_backbone_resolves():
    resolved, facts = prepare_without_images(load_config(preset="galaxy10-kl-heat"))
    assert facts["encoder"].startswith("resnet50, 23.5 M")
    assert "scale='paper'" in facts["discrepancy"]
    assert resolved.method.weight == pytest.approx(256 / 257)


def test_own_settings_win(tmp_path):
    (tmp_path / "c.yaml").write_text("optim: {weight_decay: 0.3}\ntrain: {batch_size: 64}\n")
    config = load_config(
        tmp_path / "c.yaml", ["views.local_views=2"], {"train.minutes": 5.0}, preset="imagenet100-mmd-heat"
    )
    assert (config.train.epochs, config.train.minutes, config.train.batch_size) == (None, 5.0, 64)
    assert config.optim.weight_decay == 0.3
    assert config.views.overrides == {"local_views": 2}
    assert config.method.weight == pytest.approx(0.9309, abs=1e-4)
    assert read_preset("imagenet100-mmd-heat")["views"] == {"recipe": "byol"}


def test_another_method_or_optimiser_leaves_behind_what_belonged_to_the_presets():
    config = load_config(preset="imagenet100-kl-heat", flags={"method.name": "vje"})
    assert (config.method.weight, config.method.options, config.model.dim) == (None, {}, None)
    assert config.model.encoder == "resnet18"
    same = load_config(preset="imagenet100-kl-heat", flags={"method.name": "kl-heat"})
    assert same.method.weight == pytest.approx(256 / 257)
    config = load_config(preset="cifar10-byol", sets=["optim.name=sgd"])
    assert config.optim.momentum is None
    assert "learning_rate" not in config.optim.model_fields_set
    assert config.optim.warmup_epochs == 10


def test_what_only_the_images_could_say_is_asked_for():
    with pytest.raises(UsageError, match=r"decide data\.image_size, views\.recipe, train\.batch_size"):
        prepare_without_images(load_config(None))
    with pytest.raises(UsageError, match="Did you mean 'cifar-small'"):
        load_config(preset="cifar-smal")


def test_lejepas_own_example():
    """Four equal views of 128 px, crops from .08 of the area, 16 dimensions, 256 slices, stochastic depth .1."""
    resolved, _ = prepare_without_images(load_config(preset="imagenette-lejepa"))
    views = recipe(resolved.views.recipe, resolved.data.image_size, **resolved.views.overrides)
    assert (views.global_views, views.local_views, views.scale) == (4, 0, (0.08, 1.0))
    _, method = setup.build(resolved)
    assert method.global_views == 4
    assert (method.discrepancy.dim, method.discrepancy.num_slices, method.discrepancy.reach) == (16, 256, 3.0)
    rates = [m.drop_prob for m in method.encoder.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1)
    again = type(method.encoder).from_spec(method.encoder.spec())
    assert again.arguments == method.encoder.arguments
