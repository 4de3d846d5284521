"""Class tokens of the last blocks of a tiny ViT, against hooks on the blocks themselves."""

import pytest
import torch

from isosphere.errors import UsageError
from isosphere.models import build_encoder
from isosphere.models._tokens import class_tokens, layer_blocks


@pytest.fixture
def vit():
    return build_encoder("test_vit", image_size=32).eval()


def test_they_are_the_blocks_own(vit):
    x = torch.randn(3, 3, 32, 32)
    backbone = vit.backbone
    seen = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        features = vit(x)
        expected = torch.cat([backbone.norm(tokens)[:, 0] for tokens in seen[-4:]], 1)
        width = vit.feature_dim
        got = class_tokens(vit, x, 4)
        assert got.shape == (3, 4 * width)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(class_tokens(vit, x, 1), features)
        torch.testing.assert_close(got[:, -width:], features)


def test_what_has_none_is_refused(vit):
    depth = len(vit.backbone.blocks)
    assert layer_blocks(vit, f"last{depth}") == depth
    for layer, said in (
        ("last0", "expected last1"),
        ("head", "expected last1"),
        (f"last{depth + 1}", "blocks"),
    ):
        with pytest.raises(UsageError, match=said):
            layer_blocks(vit, layer)
    for name in ("small-conv", "test_resnet"):
        with pytest.raises(UsageError, match=r'^layer="last1": .* no class token.* Leave layer out\.'):
            layer_blocks(build_encoder(name, image_size=32), "last1")
