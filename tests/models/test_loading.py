"""Every network that can be built at a size can be given weights at it, and is rebuilt from its description."""

import json
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file

from isosphere.errors import RunError, UsageError
from isosphere.models import Encoder, _hub, build_encoder, own_start
from isosphere.models._start import default_cfg

FAMILIES = {
    "resnet18": "",
    "vit_tiny_patch16_224": "pos_embed resampled",
    "convnext_atto": "",
    "tf_efficientnet_lite0": "",
    "mobilenetv3_small_050": "",
    "levit_128s": r"11 \(stages\.0\.blocks\.0\.attn\.attention_biases, \.\.\.\) resampled",
    "test_coatnet": r"3 \(stages\.2.*relative_position_bias_table, \.\.\.\) resampled",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_of_every_family_at_every_size(tmp_path, name):
    trained = timm.create_model(name)  # with a classifier, which is left out
    torch.save({"epoch": 3, "state_dict": trained.state_dict()}, tmp_path / "trained.pth")
    own = trained.pretrained_cfg["input_size"][-1]
    for size in (32, 64, 96, own):
        for init in ("random", tmp_path / "trained.pth"):
            encoder = build_encoder(name, image_size=size, init=init).eval()
            again = Encoder.from_spec(encoder.spec()).eval()
            again.load_state_dict(encoder.state_dict())
            x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(size))
            with torch.no_grad():
                features = encoder(x)
                assert torch.equal(again(x), features), (size, init)
            assert (again.pretrained_cfg, again.assumed) == (encoder.pretrained_cfg, encoder.assumed)
            if init == "random":
                assert (encoder.stem, encoder.pretrained_cfg) == (
                    None if name != "resnet18" else "full" if size > 80 else "small",
                    None,
                )
                continue
            said = encoder.origin or ""
            assert ("resampled" in said) == (bool(FAMILIES[name]) and size != own)
            assert encoder.stem == ("full" if name == "resnet18" else None)
    trained.eval().reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(trained(x), features)


def saved(path, name="test_vit", **values):
    """A network of timm's in the Hub's layout, with further keys of ``config.json``."""
    path.mkdir()
    network = timm.create_model(name, num_classes=3, **values.get("model_args", {}))
    cfg = {"input_size": [3, 160, 160], "mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "crop_pct": 0.9}
    (path / "config.json").write_text(
        json.dumps({"architecture": name, "num_classes": 3, "pretrained_cfg": cfg, **values})
    )
    save_file(network.state_dict(), path / "model.safetensors")
    network.reset_classifier(0)
    return network.eval()


def same(encoder, network, size=64):
    x = torch.rand(1, 3, size, size)
    with torch.no_grad():
        return torch.equal(encoder.eval()(x), network(x))


def test_a_folder_in_the_hubs_layout_tells_all(tmp_path):
    network = saved(
        tmp_path / "there", model_args={"img_size": 64, "init_values": 1e-5, "global_pool": "avg"}
    )
    encoder = build_encoder(None, init=f"local-dir:{tmp_path / 'there'}")
    assert (encoder.name, encoder.image_size, encoder.assumed) == ("test_vit", 160, False)
    assert (encoder.mean, encoder.std, encoder.crop_pct) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3), 0.9)
    assert same(build_encoder("test_vit", image_size=64, init=tmp_path / "there"), network)
    again = Encoder.from_spec(encoder.spec())
    again.load_state_dict(encoder.state_dict())
    assert encoder.arguments.init_values == again.arguments.init_values == 1e-5
    with pytest.raises(
        UsageError, match='is of test_vit, and encoder="resnet18" was asked for: give encoder="test_vit"'
    ):
        build_encoder("resnet18", init=tmp_path / "there")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_args": {"global_pool": ""}}, r"give 101x64 numbers an image, and one vector is needed"),
        ({"model_args": {"depths": [1, 2]}}, "depths: extra inputs are not permitted"),
        ({"architecture": "test_vitt"}, "Unknown encoder 'test_vitt'. Did you mean"),
        ({"pretrained_cfg": {"input_size": [3, 64, 64], "mean": "x", "std": [1.0]}}, "mean: input should be"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_followed(tmp_path, values, said):
    saved(tmp_path / "there")
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    (tmp_path / "there" / "config.json").write_text(json.dumps(config | values))
    with pytest.raises((UsageError, RunError), match=said):
        build_encoder(None, init=tmp_path / "there")


def test_folders_without_weights(tmp_path):
    with pytest.raises(
        UsageError, match=r"is a folder without weights that are known: expected encoder\.safetensors"
    ):
        build_encoder("test_vit", init=tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"has config\.json and no weights: expected model\.safetensors or"):
        build_encoder("test_vit", init=tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read: it is not JSON"):
        build_encoder("test_vit", init=tmp_path)


def test_the_hub_is_fetched_from_once_and_read_as_a_folder(tmp_path, monkeypatch):
    network, asked = saved(tmp_path / "there"), []

    def download(repository, file, *, revision, etag_timeout):
        from huggingface_hub.errors import EntryNotFoundError

        asked.append((repository, file, revision))
        if not (tmp_path / "there" / file).is_file():
            raise EntryNotFoundError(file)
        return str(tmp_path / "there" / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(_hub, "_answers", lambda address: True)
    encoder = build_encoder(None, image_size=64, init="hf-hub:some/network@v2")
    assert same(encoder, network)
    assert own_start(None, "hf-hub:some/network@v2") == ("test_vit", 160)
    assert asked == [("some/network", "config.json", "v2"), ("some/network", "model.safetensors", "v2")]
    (tmp_path / "there" / "model.safetensors").rename(tmp_path / "there" / "other.safetensors")
    with pytest.raises(
        RunError, match=r"'hf-hub:some/empty' could not be fetched \(open_clip_pytorch_model\.bin\)"
    ):
        build_encoder(None, init="hf-hub:some/empty")


def test_without_network_and_with_unknown_names_there_is_a_sentence_at_once(tmp_path, monkeypatch):
    from huggingface_hub.errors import RepositoryNotFoundError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(_hub, "_answers", lambda address: False)
    with pytest.raises(
        RunError, match=r"there is no network, or the hub does not answer\)\. Fetch .* init=\"FILE\""
    ):
        build_encoder(None, init="hf-hub:some/absent")

    def unknown(*_, **__):
        raise RepositoryNotFoundError("404 Client Error", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(_hub, "_answers", lambda address: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unknown)
    with pytest.raises(RunError, match=r"the Hub has no network of this name, or it is private"):
        build_encoder(None, init="hf-hub:some/unknown")
    with pytest.raises(UsageError, match=r'are given by init="hf-hub:some/one", and tell their encoder'):
        build_encoder("hf-hub:some/one", image_size=64)


def test_what_is_missing_stays_random_only_if_that_is_asked_for(tmp_path):
    trained = timm.create_model("test_vit").state_dict()
    torch.save({k: x for k, x in trained.items() if not k.startswith("blocks.1.")}, tmp_path / "part.pth")
    with pytest.raises(
        UsageError, match=r'blocks\.1\..* \(absent\).*; model=\{"partial": True\} leaves them random'
    ):
        build_encoder("test_vit", init=tmp_path / "part.pth")
    torch.manual_seed(5)
    encoder = build_encoder("test_vit", init=tmp_path / "part.pth", partial=True)
    torch.manual_seed(5)
    random = build_encoder("test_vit").backbone.state_dict()
    for key, x in encoder.backbone.state_dict().items():
        assert torch.equal(x, (random if key.startswith("blocks.1.") else trained)[key]), key
    assert "random: blocks.1.norm1.weight" in (encoder.origin or "")


def test_a_kernel_of_other_channels_is_said_to_be_adapted(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pth")
    said = build_encoder("test_vit", image_size=160, init=tmp_path / "w.pth", in_chans=1).origin or ""
    assert ", patch_embed.proj.weight adapted to these channels" in said
    assert "resampled" not in said


def test_a_kernel_of_another_size_is_of_another_network(tmp_path):
    torch.save(timm.create_model("test_vit", patch_size=8, img_size=80).state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        UsageError, match=r"patch_embed\.proj\.weight \(64x3x8x8 in the file, 64x3x16x16 here\)"
    ):
        build_encoder("test_vit", init=tmp_path / "w.pth")


def test_names_of_other_libraries_are_known_by_name_and_never_by_order(tmp_path):
    network = timm.create_model("tf_efficientnet_b0")
    theirs = dict(_their_names(network))
    torch.save(dict(reversed(theirs.items())), tmp_path / "efficientnet-b0.pth")
    encoder = build_encoder("tf_efficientnet_b0", image_size=32, init=tmp_path / "efficientnet-b0.pth")
    assert "by EfficientNet-PyTorch's names" in (encoder.origin or "")
    own = network.state_dict()
    assert all(torch.equal(x, own[key]) for key, x in encoder.backbone.state_dict().items())
    with pytest.raises(UsageError, match="belongs to another encoder"):
        build_encoder("resnet18", image_size=32, init=tmp_path / "efficientnet-b0.pth")


def _their_names(network):
    """What EfficientNet-PyTorch calls the tensors of timm's EfficientNet, from the layers' places in a block."""
    outside = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    places = [f"{i}.{j}" for i, stage in enumerate(network.blocks) for j, _ in enumerate(stage)]
    for key, x in network.state_dict().items():
        parts = key.split(".")
        if parts[0] != "blocks":
            yield ".".join([outside[parts[0]], *parts[1:]]), x
            continue
        first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        later = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        later |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
        names = (first if parts[1] == "0" else later) | {
            "conv_reduce": "_se_reduce",
            "conv_expand": "_se_expand",
        }
        layer = parts[4] if parts[3] == "se" else parts[3]
        yield f"_blocks.{places.index(f'{parts[1]}.{parts[2]}')}.{names[layer]}.{parts[-1]}", x


def test_the_networks_own_size_is_taken_and_at_most_224():
    assert build_encoder("test_vit").image_size == 160
    assert own_start("vit_small_patch14_dinov2", "pretrained") == (
        "vit_small_patch14_dinov2",
        224,
    )  # of 518 px
    assert own_start("test_vit", "random") == ("test_vit", None)
    assert own_start(None, "pretrained") == (None, None)
    with pytest.raises(UsageError, match=r"timm has no weights 'a9' of resnet18\. Known: .*a1_in1k"):
        own_start("resnet18.a9", "pretrained")


def test_what_timm_says_of_each_of_its_weights_is_understood():
    for name in timm.list_pretrained():
        cfg = default_cfg(name)
        assert cfg is not None, name
        assert 0 < cfg.crop_pct <= 1, name


def test_a_checkpoint_of_a_run_is_described_by_the_run(tmp_path):
    encoder = build_encoder("test_vit", image_size=48)
    encoder.mean = (0.1, 0.2, 0.3)
    (tmp_path / "encoder.json").write_text(json.dumps(encoder.spec()))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"method": encoder.state_dict(prefix="encoder.")}, tmp_path / "checkpoints" / "last.ckpt")
    begun = build_encoder(None, init=tmp_path / "checkpoints" / "last.ckpt")
    assert (begun.name, begun.image_size, begun.mean) == ("test_vit", 48, (0.1, 0.2, 0.3))
    assert (begun.pretrained_cfg, begun.assumed) == (None, None)


def test_timms_weights_that_cannot_be_resampled_say_their_size(monkeypatch):
    trained = timm.create_model("levit_128s").state_dict()
    monkeypatch.setattr(_hub, "_answers", lambda address: True)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(trained))
    with pytest.raises(
        UsageError, match=r"do not fit images of 64 px \(stages.*\): give image_size=224, or another"
    ):
        build_encoder("levit_128s", image_size=64, init="pretrained")
    assert build_encoder("levit_128s", init="pretrained").image_size == 224
