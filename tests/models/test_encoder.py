"""Encoders are rebuilt from their description, take local weights, and refuse what does not fit."""

import pytest
import torch
from safetensors.torch import save_file

from isosphere.errors import RunError, UsageError
from isosphere.models import Encoder, MLPHead, build_encoder, encoder_names, load_weights


@pytest.mark.parametrize(
    ("name", "size"), [("small-conv", 32), ("resnet18", 32), ("vit_tiny_patch16_224", 48)]
)
def test_features_and_description(name, size):
    encoder = build_encoder(name, image_size=size).eval()
    x = torch.randn(2, 3, size, size)
    assert encoder(x).shape == (2, encoder.feature_dim)
    again = Encoder.from_spec(encoder.spec()).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x))
    assert again.spec() == encoder.spec()


def test_small_images_get_a_small_stem():
    small, large = (build_encoder("resnet18", image_size=s).backbone for s in (32, 96))
    assert small.conv1.stride == (1, 1)
    assert large.conv1.stride == (2, 2)


def test_other_sizes_than_the_encoders_own_for_local_views():
    for name in ("small-conv", "vit_tiny_patch16_224"):
        encoder = build_encoder(name, image_size=48).eval()
        assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, encoder.feature_dim)


@pytest.mark.parametrize("form", ["safetensors", "pth", "nested"])
def test_init_from_a_local_file(tmp_path, form):
    trained = build_encoder("resnet18", image_size=96)
    state = trained.backbone.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(trained.state_dict(), path)  # keys with the prefix backbone.
    else:
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in state.items()}} if form == "nested" else state, path
        )
    fresh = build_encoder("resnet18", image_size=96, init=str(path))
    for key, value in fresh.backbone.state_dict().items():
        assert torch.equal(value, state[key]), key
    counted = [key for key in state if not key.endswith("num_batches_tracked")]  # counters of batches
    assert f"all {len(counted)} tensors" in load_weights(fresh, path)


def test_init_refusals(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        build_encoder("small-conv", image_size=32, init=tmp_path / "absent.pth")
    with pytest.raises(UsageError, match="no pretrained weights"):
        build_encoder("small-conv", image_size=32, init="pretrained")
    path = tmp_path / "other.safetensors"
    save_file(build_encoder("small-conv", image_size=32).state_dict(), path)
    with pytest.raises(UsageError, match="belongs to another encoder"):
        build_encoder("resnet18", image_size=32, init=path)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not weights")
    with pytest.raises(RunError, match="could not be read as weights"):
        build_encoder("small-conv", image_size=32, init=broken)


def test_pickled_code_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(RunError, match="could not be read as weights"):
        build_encoder("small-conv", image_size=32, init=path)


def test_names():
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        build_encoder("resnet_18", image_size=32)
    assert encoder_names()[0] == "small-conv"


def test_head():
    assert MLPHead(4, 3, 5)(torch.randn(6, 4)).shape == (6, 3)
    assert MLPHead(4, 3, 5, layers=1)(torch.randn(6, 4)).shape == (6, 3)
    with pytest.raises(ValueError, match="layers=0"):
        MLPHead(4, 3, 5, layers=0)
