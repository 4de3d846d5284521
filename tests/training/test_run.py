"""The real parts together: prepared from a configuration, trained, read back, resumed; every method."""

import math
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import isosphere
from isosphere.data import Pictures, Source, Views, open_source
from isosphere.errors import RunError, UsageError
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import (
    Config,
    SilentReporter,
    build_views,
    contact_sheet,
    fit,
    load_config,
    load_method,
    prepare,
    untrained,
)
from isosphere.training import (
    _setup as setup,
)
from tests.names import FROM_VIEWS


@pytest.fixture
def photographs(tmp_path):
    """A folder of pictures of several shapes, some of them square."""
    generator = np.random.default_rng(0)
    for i in range(48):
        shape = [(24, 32), (32, 24), (24, 24), (24, 51)][i % 4]
        pixels = np.kron(generator.integers(0, 256, (8, 8, 3)), np.ones((7, 7, 1)))[: shape[0], : shape[1]]
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i:02}.png")
    return str(tmp_path)


@pytest.fixture
def archive(tmp_path):
    """Coloured squares on noise, 24 px: something to tell apart."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (48, 24, 24, 3), dtype=np.uint8)
    for image, colour in zip(images, generator.integers(60, 256, (48, 3)), strict=True):
        top, left = generator.integers(2, 10, 2)
        image[top : top + 10, left : left + 10] = colour
    np.savez(tmp_path / "squares.npz", images=images)
    return str(tmp_path / "squares.npz")


def config_of(archive, *sets) -> Config:
    given = [f"data.source={archive}", "train.epochs=2", "train.batch_size=12", "views.recipe=crops"]
    given += ["model.dim=16", "model.hidden=32", "train.precision=float32", "train.device=cpu"]
    given += ["train.checkpoint_minutes=0", "train.tensorboard=false"]
    by_key = {item.split("=", 1)[0]: item for item in [*given, *sets]}
    return load_config(None, by_key.values())


def train(config, path, ui=None, source=None):
    parts = prepare(config, source=source)
    folder = RunFolder.create(path, resume=True)
    folder.write_config(parts.config.as_mapping())
    summary = fit(
        parts.config,
        folder,
        parts.method,
        parts.loader,
        parts.views,
        parts.fabric,
        facts=parts.identity,
        ui=ui,
    )
    return parts, summary


def test_views_grow(archive, tmp_path, monkeypatch):
    """Eight steps: half of the side in the first third, three quarters in the second; those of crops as well."""
    seen = []
    drawn = Views.__call__
    monkeypatch.setattr(
        Views, "__call__", lambda self, *a, **k: seen.append(drawn(self, *a, **k)) or seen[-1]
    )
    local = ["views.local_views=1", "views.local_size=16"]
    config = config_of(archive, "views.progressive=true", "train.monitor=false", *local)
    parts = prepare(config)
    assert parts.facts["views"].startswith("crops: 2 of 24 px, 1 local of 16 px, from half to all of that")
    seen.clear()
    train(config, tmp_path / "run")
    sides = [[view.shape[-1] for view in views] for views in seen[-8:]]
    assert sides == [[12, 12, 8]] * 3 + [[18, 18, 12]] * 3 + [[24, 24, 16]] * 2
    assert isosphere.load(tmp_path / "run").size == 24


class Killed(BaseException):
    pass


class Killer(SilentReporter):
    def __init__(self, after):
        self.left = after

    def step(self, progress, line):
        self.left -= 1
        if self.left == 0:
            raise Killed


def bits(method):
    return {k: v for k, v in method.state_dict().items() if torch.is_tensor(v)}


def assert_same(a, b):
    a, b = bits(a), bits(b)
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k].cpu(), b[k].cpu())] == []


@pytest.mark.parametrize("name", FROM_VIEWS)
def test_every_method_resumes_bit_for_bit(archive, tmp_path, name):
    """Random directions, teachers and resolved weights included."""
    # VJE has no head of its own dimension.
    config = config_of(archive, f"method.name={name}", *["model.dim=null"] * name.startswith("vje"))
    whole, _ = train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "broken", ui=Killer(6))
    torch.manual_seed(77)
    resumed, summary = train(config, tmp_path / "broken")
    assert summary.steps == 8
    assert_same(whole.method, resumed.method)


@pytest.mark.parametrize(
    "setting", ["method.options.teacher=0.9", "train.micro_batch=4", "views.progressive=true"]
)
def test_teachers_micro_batches_and_growing_views_resume_too(archive, tmp_path, setting):
    config = config_of(archive, setting)
    whole, _ = train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "broken", ui=Killer(5))
    resumed, _ = train(config, tmp_path / "broken")
    assert_same(whole.method, resumed.method)


def test_a_run_comes_back_as_it_was(archive, tmp_path):
    parts, _ = train(config_of(archive), tmp_path / "run")
    config, method = load_method(RunFolder.open(tmp_path / "run"))
    assert config == parts.config
    assert not method.training
    parts.method.eval()
    x = torch.randn(5, 3, 24, 24)
    for ours, theirs in zip(parts.method.embed(x), method.embed(x), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert build_views(config, method.encoder).recipe == parts.views.recipe


def test_the_encoder_can_be_rebuilt_from_its_two_files(archive, tmp_path):
    from isosphere.models import Encoder

    parts, _ = train(config_of(archive), tmp_path / "run")
    state, spec = RunFolder.open(tmp_path / "run").read_encoder()
    encoder = Encoder.from_spec(spec)
    encoder.load_state_dict(state)
    x = torch.randn(4, 3, 24, 24)
    assert torch.allclose(encoder.eval()(x), parts.method.encoder.eval()(x), atol=1e-6)
    assert spec["weights"] == "student"


DAMAGES = {
    "no file": lambda text: None,
    "nothing": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "no words": lambda text: b"\xff\xfe\x00",
    "deep": lambda text: "[" * 100_000,
    "digits": lambda text: text.replace("24", "9" * 5000),
    "long": lambda text: text.replace("{", "{" + " " * (1 << 20), 1),
    "a list": lambda text: "[1]",
    "another format": lambda text: text.replace("isosphere-encoder-1", "other"),
    "no name": lambda text: text.replace('"name"', '"nam"'),
    "a name that is a number": lambda text: text.replace('"small-conv"', "7"),
    "another name": lambda text: text.replace('"small-conv"', '"resnet18"'),
    "an unknown name": lambda text: text.replace('"small-conv"', '"../x"'),
    "a long name": lambda text: text.replace("small-conv", "x" * 10_000),
    "size in words": lambda text: text.replace('"image_size": 24', '"image_size": "24"'),
    "a size of none": lambda text: text.replace('"image_size": 24', '"image_size": 0'),
    "a huge size": lambda text: text.replace('"image_size": 24', '"image_size": 1e9'),
    "channels": lambda text: text.replace('"in_chans": 3', '"in_chans": true'),
    "other channels": lambda text: text.replace('"in_chans": 3', '"in_chans": 4'),
    "width": lambda text: text.replace('"feature_dim": 256', '"feature_dim": 128'),
    "not a number": lambda text: text.replace("0.485", "NaN"),
    "a mean of two": lambda text: text.replace("0.485,", ""),
    "no spread": lambda text: text.replace("0.229", "0"),
    "a mean of words": lambda text: text.replace("0.485", '"x"'),
    "step": lambda text: text.replace('"step": ', '"step": "x", "was": '),
    "a negative step": lambda text: text.replace('"step": ', '"step": -1'),
    "stem": lambda text: text.replace("{", '{"stem": "wide",', 1),
    "arguments": lambda text: text.replace(
        '"arguments": {', '"arguments": {"pretrained_cfg_overlay": {"file": "/x"}'
    ),
    "no arguments": lambda text: text.replace('"arguments": {}', '"arguments": 3'),
}


def test_a_damaged_description_of_the_encoder_is_a_sentence(archive, tmp_path):
    train(config_of(archive, "train.epochs=0"), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    whole = folder.encoder_spec.read_text()
    for kind, damage in DAMAGES.items():
        changed = damage(whole)
        assert changed != whole, kind
        folder.encoder_spec.unlink(missing_ok=True)
        if changed is not None:
            folder.encoder_spec.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        with pytest.raises((RunError, UsageError)) as caught:
            load_method(folder)
        assert len(said := str(caught.value)) < 400, kind
        assert "encoder.json" in said or "do not fit" in said or "in its description" in said, (kind, said)
        assert "\n" not in said, kind
    folder.encoder_spec.write_text(whole)
    load_method(folder)


def test_untrained_is_the_network_of_the_seed(archive, tmp_path):
    train(config_of(archive, "train.epochs=0", "train.seed=4"), tmp_path / "zero")
    train(config_of(archive, "train.epochs=1", "train.seed=4"), tmp_path / "one")
    (_, zero), (config, one) = (load_method(RunFolder.open(tmp_path / name)) for name in ("zero", "one"))
    torch.manual_seed(123)
    first = untrained(config)
    assert not first.training
    trained = bits(one.encoder)
    assert any(not torch.equal(v, trained[k]) for k, v in bits(first.encoder).items())
    assert_same(first.encoder, zero.encoder)
    assert_same(first.head, zero.head)


@pytest.mark.parametrize("name", ["jepa", "byol-mhe"])
def test_preparing_leaves_no_trace_in_method_or_generator(archive, name):
    """The start-up facts are measured on a batch; training begins as if they had not been, but for the weight."""
    config = config_of(archive, f"method.name={name}")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    parts = prepare(config)
    assert torch.equal(torch.get_rng_state(), before)
    _, fresh = setup.build(parts.config)
    mine, theirs = bits(parts.method), bits(fresh)
    found = {"regulariser.weight", "regulariser.found_for", "terms.0.weight"}
    assert {k for k in mine if not torch.equal(mine[k], theirs[k])} == found & mine.keys()
    assert "expansion ratio" in parts.facts
    assert "nan" not in parts.facts["energy" if name == "byol-mhe" else "weight"]


def test_images_that_do_not_fit_into_memory_are_streamed(archive, tmp_path, monkeypatch):
    """The same batches, so the same bits, whether images are kept or decoded by workers when needed."""
    config = config_of(archive)
    kept, _ = train(config, tmp_path / "kept")
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    streamed, _ = train(config, tmp_path / "streamed")
    assert isinstance(streamed.images, Source)
    assert "decoded as needed" in streamed.facts["data"]
    assert_same(kept.method, streamed.method)
    assert "decoding" not in streamed.facts  # these lie in memory, encoded


def test_streamed_images_are_decoded_once(photographs, tmp_path, monkeypatch):
    pytest.importorskip("lmdb", reason="LMDB, which keeps decoded pictures, is not installed")
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    config = config_of(photographs, "data.image_size=16", "data.workers=0")
    first, _ = train(config, tmp_path / "first")
    folder = first.loader.cache.folder
    assert "decoded once, kept on the disk" in first.facts["data"]
    assert first.facts["decoding"].startswith(f"once; then from {folder}, at most 0.0 GiB")
    monkeypatch.setattr("isosphere.data._loader.square", None)  # whoever decodes an image now fails
    monkeypatch.setattr("isosphere.data._loader.whole", None)
    second, _ = train(config, tmp_path / "second")
    assert_same(first.method, second.method)


def test_a_deterministic_training_sets_the_order_of_adding_before_any_product(archive, monkeypatch):
    """PyTorch reads it once, at the first product on a GPU, which is among what `prepare` looks at."""
    seen, first_views = [], setup.first_views
    monkeypatch.setattr(
        setup,
        "first_views",
        lambda *arguments: seen.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG")) or first_views(*arguments),
    )
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare(config_of(archive))
    prepare(config_of(archive, "train.deterministic=true"))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare(config_of(archive, "train.deterministic=true"))
    assert seen == [None, ":4096:8", ":16:8"]


def test_without_lmdb_each_epoch_decodes(photographs, monkeypatch):
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    parts = prepare(config_of(photographs))
    assert parts.loader.cache is None
    assert parts.facts["decoding"].startswith("anew in each epoch; after pip install lmdb about 0.0 GiB")
    with pytest.raises(UsageError, match=r"data.cache.* needs LMDB, which is not installed"):
        prepare(config_of(photographs, "data.cache=2"))
    for spared in ("data.cache=0", "train.epochs=1"):
        assert "decoding" not in prepare(config_of(photographs, spared)).facts


def test_an_opened_source_is_trained_on_as_if_it_were_named(archive, tmp_path):
    named, _ = train(config_of(archive, "data.limit=40"), tmp_path / "named")
    config = config_of(archive, "data.limit=40", "data.source=null")
    given, _ = train(config, tmp_path / "given", source=open_source(archive))
    assert given.images.paths == named.images.paths
    assert given.config.data.source is None
    assert given.facts["data"] == f"40 images of 24 px from {open_source(archive).name}, in memory"
    assert_same(named.method, given.method)


def test_an_opened_source_is_looked_at_itself(archive):
    """Whatever the name in the configuration says: nothing is opened by it."""
    described = config_of(archive, "data.source=my own pictures")
    digits = open_source("digits", split="train")
    assert digits.has_test_split
    parts = prepare(described, source=digits)
    assert parts.test is None
    assert len(parts.images) == len(digits)
    assert "trained on as well" in parts.facts["monitor"]
    assert "from my own pictures" in parts.facts["data"]
    assert len(prepare(config_of("digits")).test) == len(open_source("digits", split="test"))


def test_limit_draws_by_the_seed(archive):
    first, again, other = (
        setup.open_training_source(config_of(archive, "data.limit=20", f"train.seed={seed}")).paths
        for seed in (0, 0, 1)
    )
    assert len(first) == 20
    assert first == again != other


def test_other_images_cannot_continue_a_run(archive, tmp_path):
    train(config_of(archive, "train.epochs=1"), tmp_path / "run")
    with pytest.raises(RunError, match="images = 48, and now it is 47"):
        train(config_of(archive, "data.limit=47"), tmp_path / "run")


def test_weights_of_another_run_are_refused(archive, tmp_path):
    train(config_of(archive, "train.epochs=0"), tmp_path / "a")
    train(config_of(archive, "train.epochs=0", "model.dim=8"), tmp_path / "b")
    (tmp_path / "a" / "method.safetensors").write_bytes((tmp_path / "b" / "method.safetensors").read_bytes())
    with pytest.raises(RunError, match="do not fit"):
        load_method(RunFolder.open(tmp_path / "a"))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["method.name=mmd-heta"], "Did you mean 'mmd-heat'"),
        (["model.encoder=resnet-18"], "Did you mean 'resnet18'"),
        (["model.init=absent.pth"], "no file 'absent.pth'"),
        (["views.recipe=crop"], "Did you mean 'crops'"),
        (["views.rotation=400"], "rotation"),
        (["train.batch_size=100"], "more than the 48 readable images"),
        (["train.micro_batch=5"], 'give train={"micro_batch": 4}'),
        (["method.options.teachr=1"], "teachr"),
        (["model.encoder=test_vit"], "cannot take images of 24 px (Input height (24) should be divisible by"),
        (["model.encoder=test_vit"], '; it was made for 160 px): give another set={"data.image_size": ...}'),
        (
            ["model.encoder=test_vit", "data.image_size=32", "views.local_views=1", "views.local_size=20"],
            'give another views={"local_size": ...}',
        ),
        (
            ["model.encoder=test_vit", "data.image_size=160", "views.progressive=true"],
            'leave views={"progressive": True} out or choose another',
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(archive, sets, words):
    with pytest.raises(UsageError) as caught:
        prepare(config_of(archive, *sets))
    assert words in str(caught.value)


def test_weights_that_do_not_fit_are_named_before_images_are_read(archive, tmp_path):
    torch.save({"other.weight": torch.ones(2)}, tmp_path / "other.pth")
    read: list[tuple[int, int]] = []
    with pytest.raises(UsageError, match="belongs to another encoder"):
        prepare(
            config_of(archive, f"model.init={tmp_path / 'other.pth'}"), progress=lambda *n: read.append(n)
        )
    assert not read
    prepare(config_of(archive), progress=lambda *n: read.append(n))
    assert read


def test_no_data():
    with pytest.raises(UsageError, match="no data"):
        prepare(Config())


def test_unreadable_images_are_skipped_and_named(tmp_path):
    from PIL import Image

    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    parts = prepare(config_of(tmp_path, "train.batch_size=4", "train.epochs=50"))
    assert len(parts.images) == 12
    assert len(parts.warnings) == 1
    assert "1 of 13 files cannot be used and is skipped: broken.png" in parts.warnings[0]
    with pytest.raises(RunError, match=r"broken\.png"):
        prepare(config_of(tmp_path, "train.batch_size=4", "data.strict=true"))


@pytest.mark.parametrize("name", ["byol", "simsiam", "vi-simsiam", "vje"])
def test_a_training_too_short_for_its_method_is_told_so(name, archive):
    short = ["train.batch_size=4", f"method.name={name}", "model.dim=256"]
    parts = prepare(config_of(archive, *short))
    (said,) = parts.warnings
    assert f"{name} needs about 1,000 steps before it tells images apart" in said
    enough = math.ceil(1000 / len(parts.loader))
    assert f"epochs={enough} or more" in said
    (said,) = prepare(config_of(archive, *short, "method.name=kl-vmf")).warnings
    assert f"epochs={enough} or more: most folders need 1,000 steps" in said
    assert "any method needs about 100 steps to learn something" in said
    quick = ["method.name=kl-vmf", f"train.epochs={math.ceil(100 / len(parts.loader))}"]
    for others in ([f"train.epochs={enough}"], ["train.epochs=0"], quick):
        assert prepare(config_of(archive, *short, *others)).warnings == ()


@pytest.mark.parametrize("name", ["kl-vmf", "sphere-jepa", "byol"])
def test_bf16_trains_and_statistics_stay_finite(archive, tmp_path, name):
    parts, summary = train(
        config_of(archive, "train.precision=bf16", f"method.name={name}"), tmp_path / "run"
    )
    assert "bfloat16" in parts.facts["precision"]
    assert all(p.dtype == torch.float32 for p in parts.method.parameters())
    assert np.isfinite(summary.last["total"])
    assert len(read_metrics(tmp_path / "run" / "metrics.csv")) == 2


@pytest.mark.parametrize("recipe", ["lejepa", "textures"])
def test_whole_photographs_train_and_resume_bit_for_bit_streamed_or_not(
    photographs, tmp_path, monkeypatch, recipe
):
    config = config_of(photographs, f"views.recipe={recipe}", "data.image_size=16")
    parts, _ = train(config, tmp_path / "whole")
    assert parts.config.data.crop_from == "whole"
    assert isinstance(next(parts.loader.epoch(0)).images, Pictures)
    assert "24 px on the short side" in parts.facts["data"]
    assert parts.facts["seen"] == "random crops are drawn over the whole picture"
    with pytest.raises(Killed):
        train(config, tmp_path / "broken", ui=Killer(3))
    monkeypatch.setattr("isosphere.training._storage.IN_MEMORY", 0)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    resumed, _ = train(config, tmp_path / "broken")
    resumed.loader.close()
    assert_same(parts.method, resumed.method)


def test_squares_are_cut_on_request_and_in_runs_of_an_earlier_version(photographs):
    whole = prepare(config_of(photographs))
    square = prepare(config_of(photographs, "data.crop_from=square"))
    assert "lies outside" in square.facts["seen"]
    record = whole.method.encoder.spec()
    earlier = prepare(config_of(photographs), record=record)  # which has no such key
    assert earlier.config.data.crop_from == "square"
    for parts in (square, earlier):
        assert next(parts.loader.epoch(0)).images.shape == (12, 3, 24, 24)
    kept = prepare(whole.config, record=record)
    assert isinstance(next(kept.loader.epoch(0)).images, Pictures)


def test_what_is_longer_than_crops_reach_is_said(tmp_path):
    for i in range(8):
        Image.new("RGB", (200, 40) if i == 3 else (50, 40), (30 * i, 9, 9)).save(tmp_path / f"{i}.png")
    parts = prepare(config_of(tmp_path, "train.batch_size=4"))
    assert parts.facts["panoramas"].startswith("12.5% are over 4 times as long as wide: ")


def test_contact_sheet_keeps_shapes(photographs):
    parts = prepare(config_of(photographs))
    images = next(parts.loader.epoch(0)).images
    wide = next(k for k, x in enumerate(images) if x.shape[2] > x.shape[1])
    sheet = np.asarray(contact_sheet(images[wide : wide + 1], parts.views, epochs=1, cell=32))
    first = sheet[4:36, 4:36]
    assert (first[0] == 255).all()
    assert not (first[16] == 255).all()


def test_contact_sheet(archive):
    parts = prepare(config_of(archive, "views.local_views=1", "views.local_size=16"))
    sheet = contact_sheet(parts.loader.epoch(0).__next__().images[:2], parts.views, epochs=2, cell=32)
    assert sheet.mode == "RGB"
    assert sheet.size == (16 + 7 * 36, 2 * 36 + 4)
    first = np.asarray(sheet)[4:36, 4:36]
    image = parts.loader.epoch(0).__next__().images[0]
    assert abs(float(first.mean()) - float(image.float().mean())) < 3
