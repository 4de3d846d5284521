"""Every listed encoder builds at the size that it was made for; the constructor itself is asked what it takes."""

import pytest
import timm
import torch
from timm.models._registry import _model_to_module

from isosphere.errors import RunError, UsageError
from isosphere.models import Encoder, _hub, build_encoder, encoder_names


def check(name, size=None):
    """Features of one vector an image, as wide as is said, without computing anything."""
    with torch.device("meta"), torch.no_grad():
        size = size or timm.get_pretrained_cfg(name).input_size[-1]
        encoder = Encoder(name, image_size=size).eval()
        assert encoder(torch.empty(2, 3, size, size)).shape == (2, encoder.feature_dim), name
    return encoder


@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [
        ("lcnet_035", 32, set()),  # wider than num_features says: as mobilenetv3, mobilenetv4, ghostnet, vgg
        ("mobilenetv4_conv_small_035", 32, set()),
        ("ghostnet_050", 32, set()),
        ("vgg11", 64, set()),
        ("ese_vovnet19b_slim_dw", 64, set()),  # refuses all it does not know in one sentence
        ("mobilevit_xxs", 64, {"img_size"}),
        ("levit_128s", 64, {"img_size"}),
        ("test_coatnet", 64, {"img_size"}),
        ("vit_tiny_patch16_dinov3_qkvb", 64, {"img_size", "dynamic_img_size"}),
        ("swin_tiny_patch4_window7_224", 64, {"img_size", "dynamic_img_size", "strict_img_size"}),
        ("test_vit", 48, {"img_size", "dynamic_img_size"}),
    ],
)
def test_the_constructor_is_asked(name, size, taken):
    encoder = check(name, size)
    assert set(encoder.arguments.given()) == taken
    assert encoder.arguments.given().get("img_size", size) == size


SMALLEST = """
aimv2 test_vit test_byobnet beit_base_patch16_224 halonet_h1 poolformerv2_s12 cait_xxs24_224 coat_tiny test_coatnet
convit_tiny convmixer_768_32 test_convnext cpubone_nano crossvit_tiny_240 cs3darknet_focus_s csatv2 cspnext_tiny
davit_tiny deepseek_vit_412m deit_tiny_patch16_224 densenet121 dla46x_c test_nfnet dpn48b ese_vovnet19b_slim_dw
test_resnet edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet efficientvim_m1
efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 lcnet_035 focalnet_tiny_srf
gcvit_xxtiny gemma4_vit_167m ghostnet_050 gmlp_ti16_224 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
legacy_seresnet18 legacy_xception levit_128s lowformer_b0 test_mambaout mobilenetv5_base mobilevit_xxs mvitv2_tiny
naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small pit_ti_224 pnasnet5large pvt_v2_b0
qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d resnetv2_18 rexnet_100
samvit_base_patch16_224 selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 test_vit_relpos tiny_vit_5m_224
tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny vit_tiny_r_s16_p8_224 vitamin_small_224
volo_d1_224 xception41p xcit_nano_12_p8_224
""".split()[1:]  # noqa: SIM905


@pytest.mark.slow
def test_the_smallest_of_each_of_timms_modules():
    """1,226 of the names were tried so by hand, all at their own size."""
    known = set(SMALLEST) & set(encoder_names())
    assert {_model_to_module[name] for name in known} == set(timm.list_modules())
    for name in sorted(known):
        check(name)


def test_what_gives_no_vector_is_not_listed():
    assert not [name for name in encoder_names() if name.endswith("_enc")]
    with pytest.raises(UsageError, match=r'one vector an image is needed: give encoder="mobilenetv5_300m"'):
        build_encoder("mobilenetv5_300m_enc", image_size=224)


def test_what_cannot_be_built_says_its_own_size(monkeypatch):
    def refuses(*_, **__):
        raise AssertionError("window too large")

    monkeypatch.setattr(timm, "create_model", refuses)
    with pytest.raises(
        UsageError,
        match=r"for images of 64 px \(window too large\): its own size is 160: give image_size=160",
    ):
        build_encoder("test_resnet", image_size=64)


def test_asking_draws_nothing():
    """What is drawn first is as if the right arguments had been known."""
    torch.manual_seed(3)
    first = timm.create_model("test_resnet", num_classes=0)
    torch.manual_seed(3)
    second = build_encoder("test_resnet", image_size=160).backbone
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_pretrained_without_network_is_said_at_once(monkeypatch, tmp_path):
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    monkeypatch.setattr(_hub, "_answers", lambda address: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        RunError, match=r"weights of 'test_resnet' could not be fetched \(there is no network"
    ):
        build_encoder("test_resnet", image_size=64, init="pretrained")
    assert before == constants.HF_HUB_OFFLINE


def test_an_encoder_that_has_no_pretrained_weights():
    name = next(
        name for name in encoder_names()[1:] if not getattr(timm.get_pretrained_cfg(name), "has_weights", 0)
    )
    with pytest.raises(UsageError, match=f"timm has no pretrained weights of '{name}'"):
        build_encoder(name, image_size=64, init="pretrained")


def test_timms_weights_that_leave_something_random_are_refused(monkeypatch):
    trained = timm.create_model("test_resnet").state_dict()
    given = {
        key: x for key, x in trained.items() if key not in ("layer1.0.bn1.bias", "bn1.num_batches_tracked")
    }
    monkeypatch.setattr(_hub, "_answers", lambda address: True)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(given))
    with pytest.raises(RunError, match=r"lack 1 tensor of the network: layer1\.0\.bn1\.bias\."):
        build_encoder("test_resnet", image_size=160, init="pretrained")
    given["layer1.0.bn1.bias"] = trained["layer1.0.bn1.bias"]
    build_encoder("test_resnet", image_size=160, init="pretrained")


def test_timms_weights_keep_their_stem_and_are_named(monkeypatch):
    trained = timm.create_model("resnet18").state_dict()
    monkeypatch.setattr(_hub, "_answers", lambda address: True)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(trained))
    encoder = build_encoder("resnet18", image_size=64, init="pretrained")
    assert torch.equal(encoder.backbone.conv1.weight, trained["conv1.weight"])
    assert encoder.stem == "full"
    assert encoder.origin is not None
    assert encoder.origin.startswith("timm's weights resnet18.")
    Encoder.from_spec(encoder.spec()).load_state_dict(encoder.state_dict())


def test_stochastic_depth_is_of_networks_that_have_it():
    encoder = build_encoder("vit_tiny_patch16_224", image_size=32, drop_path=0.2)
    x = torch.randn(4, 3, 32, 32)
    assert encoder.arguments.drop_path_rate == 0.2
    assert torch.equal(encoder.eval()(x), encoder(x))
    assert not torch.equal(encoder.train()(x), encoder(x))
    plain = build_encoder("vit_tiny_patch16_224", image_size=32)
    plain.load_state_dict(encoder.state_dict())
    assert torch.equal(plain.eval()(x), encoder.eval()(x))
    for name in ("small-conv", "vgg11"):
        with pytest.raises(UsageError, match="no stochastic depth"):
            build_encoder(name, image_size=32, drop_path=0.1)
