"""What every method by name promises, tested over all of them."""

import inspect
import pickle

import pytest
import torch
from torch import nn

from isosphere.discrepancies import Discrepancy
from isosphere.errors import UsageError
from isosphere.methods import METHODS, build_method, option_names
from tests.names import FROM_VIEWS

DIM, HIDDEN, ROWS = 8, 16, 12


class Tiny(nn.Module):
    """A convolution with batch norm, average-pooled: any image size."""

    feature_dim = 10

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, self.feature_dim, 3, 2, bias=False), nn.BatchNorm2d(10), nn.ReLU()
        )

    def forward(self, x):
        return self.layers(x).mean((2, 3))


def some_views(local=2, rows=ROWS, seed=1):
    """Two global and some smaller local views of the same noisy images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(rows, 3, 12, 12, generator=generator)

    def view(size):
        return images[..., :size, :size] + 0.3 * torch.randn(rows, 3, size, size, generator=generator)

    return [view(12), view(12)] + [view(8) for _ in range(local)]


def build(name, start=0, views=4, **options):
    torch.manual_seed(start)
    # VJE has no projection head: its dimension is the encoder's.
    dim = Tiny.feature_dim if name.startswith("vje") else DIM
    method = build_method(name, Tiny(), dim=dim, hidden=HIDDEN, **options)
    return method.prepare(n=ROWS, views=views, batch=some_views(views - 2))


def train(method, views, steps, rate=2e-3, follow=True):
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        optimizer.zero_grad()
        method(views).total.backward()
        optimizer.step()
        if follow:
            method.after_step((step + 1) / steps)


@pytest.fixture(params=FROM_VIEWS)
def name(request):
    return request.param


@pytest.fixture
def method(name):
    return build(name)


@pytest.mark.parametrize("local", [0, 2])
def test_loss_and_gradients_are_finite(name, local):
    method = build(name, views=2 + local)
    loss = method(some_views(local))
    assert loss.total.shape == ()
    assert loss.total.isfinite()
    assert loss.total.requires_grad
    assert loss.parts
    for key, part in loss.parts.items():
        assert part.shape == (), key
        assert part.isfinite(), key
        assert not part.requires_grad, key
    loss.total.backward()
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        else:
            assert parameter.grad is None, key
    assert {id(p) for p in method.encoder.parameters()} <= {
        id(p) for p in method.parameters() if p.requires_grad
    }


def test_embed_gives_features_and_embedding_and_leaves_no_trace(method):
    view = some_views()[0]
    train(method, some_views(), 1)
    method.eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    state = torch.get_rng_state()
    features, embedding = method.embed(view)
    assert torch.equal(torch.get_rng_state(), state)
    assert features.shape == (ROWS, Tiny.feature_dim)
    assert len(embedding) == ROWS
    assert features.dtype == embedding.dtype == torch.float32
    assert not features.requires_grad
    assert not embedding.requires_grad
    if method.space == "sphere":
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(ROWS))
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_state_dict_carries_all_that_the_next_loss_depends_on(name, method):
    views = some_views()
    train(method, views, 3)
    other = build(name, start=7)
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(other(views).total, method(views).total, rtol=0, atol=0)
    train(method, views, 1)
    train(other, views, 1)
    torch.testing.assert_close(other(views).total, method(views).total, rtol=0, atol=0)


def test_pickle(method):
    views = some_views()
    method(views)
    copy = pickle.loads(pickle.dumps(method))
    torch.testing.assert_close(copy(views).total, method(views).total, rtol=0, atol=0)


def test_a_few_steps_reduce_the_loss_of_a_batch(name, method):
    if name == "visreg":
        pytest.skip("no gradient passes through the deviation that divides: its loss is not what descends")
    views = some_views()
    before = method(views).total.item()
    train(method, views, 15, follow=False)
    assert method(views).total.item() < before


def test_statistics_do_not_follow_the_networks_precision(method):
    views = some_views()
    exact = method(views).total
    with torch.autocast("cpu", torch.bfloat16):
        rough = method(views).total
    assert exact.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)
    rough.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


def test_order_of_the_images_does_not_matter(name):
    method, views = build(name).double(), [v.double() for v in some_views()]
    if name.startswith("vje"):
        pytest.skip("each row has its own noise")
    order = torch.randperm(ROWS)
    torch.testing.assert_close(
        method([v[order] for v in views]).total, method(views).total, rtol=1e-9, atol=1e-10
    )


def test_description_changes_nothing(method):
    views = some_views()
    method(views)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    for facts in (method.describe(), method.describe(views)):
        assert all(isinstance(text, str) and text for text in facts.values())
    assert "expansion ratio" in method.describe(views)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_weight_does_not_follow_the_networks_precision(name):
    exact = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        rough = build(name)
        assert rough.describe(some_views()).keys() == exact.describe(some_views()).keys()
    assert repr(rough.spread_setting) == repr(exact.spread_setting)  # nan is not nan


def test_a_forward_pass_changes_no_state_but_that_of_batch_norm(name, method):
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method(some_views())
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert {key.rsplit(".", 1)[-1] for key in changed} <= {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_group_reaches_every_discrepancy(method):
    assert method.group is None
    method.group = False
    assert method.group is False
    assert all(part.group is False for part in method.modules() if isinstance(part, Discrepancy))


def test_too_few_views_are_refused_in_words(method):
    with pytest.raises(ValueError, match="got 1 view"):
        method(some_views(0)[:1])


def test_no_global_view_is_refused_in_words(name):
    with pytest.raises(UsageError, match="global_views=0, expected at least 1"):
        build(name, global_views=0)


def test_the_spread_setting_is_a_setting_of_the_method(name, method):
    """What the collapse alarm tells people to raise can be typed."""
    method(some_views())
    if name in ("byol", "simsiam", "simclr", "vje", "vje-cauchy", "vi-simsiam"):
        assert method.spread_setting is None
        return
    key, value = method.spread_setting
    option = key.removeprefix("method.options.").removeprefix("method.")
    assert option in option_names(name)
    if name != "byol-mhe":  # whose weight depends on the gradients
        assert build(name, **{option: value}).spread_setting == (key, pytest.approx(value))


def test_unknown_option_is_refused_with_the_nearest_name(name):
    for option in option_names(name):
        with pytest.raises(
            UsageError, match=rf"Method '{name.replace('+', '.')}' has no option .* '{option}'"
        ):
            build(name, **{f"{option}x": 1})


def test_value_of_the_wrong_kind_is_refused_in_words(name):
    for option in option_names(name):
        with pytest.raises(UsageError, match=rf"option '{option}': got \['no'\], expected"):
            build(name, **{option: ["no"]})


def test_listed_in_words(name):
    entry = METHODS[name]
    assert entry.paper
    assert len(entry.summary) < 70
    text = inspect.getdoc(type(build(name))) or ""
    assert ".. math::" in text
    for heading in ("Args:", "Parts:", "Reference:", "Example:"):
        assert f"\n{heading}\n" in text


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("byol", {"teacher": "much"}, "option 'teacher': got 'much', expected a number"),
        ("byol", {"teacher": 1.5}, "got a teacher momentum of 1.5"),
        ("byol+mmd", {"place": "encoder"}, "expected 'projection', 'prediction', 'features'"),
        ("byol+mmd", {"weight": 2}, "got weight=2"),
        ("byol-mhe", {"energy_ratio": 0}, "got energy_ratio=0"),
        ("simclr", {"temperature": 0}, "got temperature=0"),
        ("simclr", {"weight": 0.5}, "has no option 'weight'. Its options: temperature"),
        ("align-uniform", {"weight": 1}, "got weight=1"),
        ("vicreg", {"variance": -1}, "got variance=-1"),
        ("barlow-twins", {"weight": -1}, "got weight=-1"),
        ("vicreg", {"invariance": 0, "variance": 0, "covariance": 0}, "got weights of 0 alone"),
        ("simsiam", {"bottleneck": 2.5}, "expected a whole number or null"),
        ("simsiam", {"bottleneck": 0}, "got bottleneck=0, expected at least 1"),
        ("vi-simsiam", {"bottleneck": -2}, "got bottleneck=-2, expected at least 1"),
        ("kl-vmf", {"expansion": -1}, "got expansion=-1, expected a positive number"),
        ("kl-vmf", {"concentration": -1}, "concentration must lie in"),
        ("mmd-heat", {"time": 0.5, "concentration": 2}, "got both a concentration and a time"),
        ("vje+mmd", {"degrees_of_freedom": 3}, "leave it out"),
        ("sphere-jepa", {"num_slices": 0}, "got num_slices=0"),
    ],
)
def test_unfit_values_are_refused_in_words(name, options, words):
    with pytest.raises(UsageError) as refusal:
        build(name, **options)
    assert words in str(refusal.value)


def test_a_number_in_letters_is_taken():
    assert build("byol", teacher="5e-1").teacher.momentum == 0.5
