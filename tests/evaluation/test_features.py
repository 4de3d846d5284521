"""Features: right values, right mode, no trace; views that depend on the image alone."""

import pytest
import torch
from torch import Tensor, nn

from isosphere.data import Views, another_look, centre_view, recipe
from isosphere.evaluation import extract, extract_views, packed, unpacked

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Encoder(nn.Module):
    """Batch norm and dropout: whoever forgets evaluation mode is found out."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.head = nn.Linear(5, 4)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(x).mean((2, 3))
        return features, self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)[0]


def images(n=13, size=20):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8)


def test_features_are_those_of_the_centre_view_in_evaluation_mode():
    model, x = Encoder().train(), images()
    got = extract(model.embed, x, 16, MEAN, STD, batch_size=5)
    model.eval()
    with torch.no_grad():
        features, embedding = model.embed(centre_view(x, 16, MEAN, STD))
    torch.testing.assert_close(got.backbone, features)
    torch.testing.assert_close(got.head, embedding)
    assert len(got) == 13
    assert got.head.dtype == torch.float32
    assert not got.backbone.requires_grad


def test_passes_are_averaged_as_directions_and_keep_their_length():
    model, x = Encoder().eval(), images()
    got = extract(model.embed, x, 16, MEAN, STD, passes=3, batch_size=5)
    with torch.no_grad():
        seen = [model.embed(centre_view(another_look(x, k), 16, MEAN, STD)) for k in range(3)]
    for rows, outputs in ((got.backbone, [one for one, _ in seen]), (got.head, [two for _, two in seen])):
        direction = sum(one / one.norm(dim=1, keepdim=True) for one in outputs)
        torch.testing.assert_close(torch.cosine_similarity(rows, direction), torch.ones(13))
        torch.testing.assert_close(rows.norm(dim=1), sum(one.norm(dim=1) for one in outputs) / 3)


def test_one_output_that_stands_for_both_is_kept_once():
    got = extract(Encoder(), images(), 16, MEAN, STD, passes=2)
    assert got.head is got.backbone
    assert set(packed([got])) == {"backbone/0"}
    (again,) = unpacked(packed([got]))
    assert torch.equal(again.head, got.backbone)


def test_features_can_be_learned_from():
    got = extract(Encoder().embed, images(), 16, MEAN, STD)
    probe = nn.Linear(5, 1)
    probe(got.backbone).sum().backward()  # tensors made under inference_mode would refuse
    assert probe.weight.grad is not None


def test_every_module_gets_its_own_mode_back_and_statistics_do_not_move():
    model = Encoder().train()
    model.backbone[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract(model.embed, images(), 16, MEAN, STD)
    assert model.training
    assert model.backbone[1].training
    assert not model.backbone[2].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_modes_come_back_after_an_error_too():
    model = Encoder().train()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(model.embed, images(), 16, MEAN, STD, progress=stop)
    assert all(module.training for module in model.modules())


def test_random_numbers_are_not_consumed_even_by_a_random_encoder():
    x, before = images(), torch.get_rng_state()
    extract(lambda view: torch.rand(len(view), 3), x, 16, MEAN, STD)
    assert torch.equal(before, torch.get_rng_state())


def test_a_module_with_one_output_serves_as_both():
    got = extract(Encoder(), images(), 16, MEAN, STD)
    assert torch.equal(got.backbone, got.head)


def test_whatever_holds_images_will_do_and_progress_is_told():
    class Holder:
        images = images()

    told = []
    got = extract(
        Encoder(), Holder(), 16, MEAN, STD, batch_size=6, progress=lambda done, n: told.append((done, n))
    )
    assert len(got) == 13
    assert told == [(6, 13), (12, 13), (13, 13)]


def test_few_large_views_pass_through_a_network_at_once_on_a_cpu():
    model, x, seen = Encoder(), images(37, 24), []

    def embed(view: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(view))
        return model.embed(view)

    extract(embed, x, 448, MEAN, STD)
    assert seen == [8, 8, 8, 8, 5]
    extract(embed, x, 16, MEAN, STD)
    assert seen[5:] == [37]
    model.eval()
    with torch.no_grad():
        features, _ = model.embed(centre_view(x, 448, MEAN, STD))
    got = extract(model.embed, x, 448, MEAN, STD)
    torch.testing.assert_close(got.backbone, features)
    one = extract(model, x, 448, MEAN, STD)
    assert one.head is one.backbone


def test_autocast_computes_in_its_type_and_returns_float32():
    seen = []

    class Probe(Encoder):
        def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out = super().embed(x)
            seen.append(out[1].dtype)
            return out

    got = extract(Probe().embed, images(), 16, MEAN, STD, autocast=torch.bfloat16)
    assert seen == [torch.bfloat16]
    assert got.head.dtype == torch.float32


def test_views_depend_on_seed_and_image_but_not_on_the_batch():
    model, x = Encoder().eval(), images()
    views = Views(recipe("crops", 16))
    first = extract_views(model.embed, x, views, seed=3, batch_size=4)
    second = extract_views(model.embed, x, views, seed=3, batch_size=13)
    other = extract_views(model.embed, x, views, seed=4, batch_size=13)
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.head, b.head)
    assert not torch.allclose(first[0].head, first[1].head)
    assert not torch.allclose(first[0].head, other[0].head)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.rand(2, 3, 8, 8), "expected uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "expected uint8"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "n >= 1"),
    ],
)
def test_wrong_images_are_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        extract(Encoder(), bad, 8, MEAN, STD)


def test_wrong_outputs_and_batches_are_refused():
    with pytest.raises(ValueError, match="features of shape"):
        extract(nn.Identity(), images(), 8, MEAN, STD)
    with pytest.raises(ValueError, match="batch_size"):
        extract(Encoder(), images(), 8, MEAN, STD, batch_size=0)
