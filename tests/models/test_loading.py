"""Every network that can be built at a size can be given weights at it, and is rebuilt from its description."""

import pytest
import timm
import torch

from isosphere.models import Encoder, build_encoder

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
