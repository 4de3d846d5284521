"""Distillation: targets against their definition, the loss against its formula, pieces and ranks against one whole."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from isosphere.errors import UsageError
from isosphere.methods import DISTILLATION, Distillation, build_method, distillation_targets
from isosphere.training import Differentiator, Step, StepTimer, make_fabric
from tests.methods.test_contract import DIM, ROWS, Tiny, some_views, train
from tests.methods.test_method_ranks import CHANNELS, networks

NAME = DISTILLATION


def built(**options):
    torch.manual_seed(0)
    return build_method(NAME, Tiny(), dim=DIM, **options).prepare(n=ROWS, views=2)


def given(local=0, seed=1):
    generator = torch.Generator().manual_seed(seed + 1)
    targets = functional.normalize(torch.randn(ROWS, DIM, generator=generator), dim=1)
    return [*some_views(local, seed=seed), targets[:, :, None, None]]


@pytest.mark.parametrize("local", [0, 2])
def test_the_loss_is_the_mean_cosine_distance(local):
    method, views = built(), given(local)
    *images, targets = views
    loss = method(views)
    distances = []
    for same in ([images[0], images[1]], images[2:]):  # batch norm is over all views of a size
        if same:
            z = method.head(method.encoder(torch.cat(same)))
            distances += [
                1 - functional.cosine_similarity(part, targets.flatten(1)) for part in z.chunk(len(same))
            ]
    torch.testing.assert_close(loss.total, torch.stack(distances).mean())
    assert loss.parts.keys() == {"cosine distance"}
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


def test_it_learns_its_targets_and_survives_a_pickle():
    method, views = built(), given()
    before = method(views).total.item()
    train(method, views, 60)
    after = method(views).total
    assert after < 0.6 * before
    torch.testing.assert_close(pickle.loads(pickle.dumps(method))(views).total, after, rtol=0, atol=0)


def test_one_view_is_enough():
    method, (view, _, targets) = built(global_views=1), given()
    assert method([view, targets]).total.isfinite()


def test_a_regulariser_joins_with_its_weight():
    plain, held, views = built(), built(regulariser="mmd-heat", weight=0.25), given()
    held.load_state_dict(plain.state_dict(), strict=False)
    loss = held(views)
    total = 0.75 * plain(views).total + 0.25 * loss.parts["regulariser"]
    torch.testing.assert_close(loss.total, total)
    assert 0 < built(regulariser="kl-vmf").weight < 1  # found by the rule


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda views: views[2:], "got 0 view"),
        (lambda views: [*views[:2], views[2][:5]], "targets of shape"),
        (lambda views: [*views[:2], views[2][:, :3]], "targets of 3 dimensions, expected 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=words):
        built()(change(given()))
    with pytest.raises(UsageError, match="global_views=0"):
        built(global_views=0)


def test_pieces_of_a_batch_have_the_gradient_of_the_whole():
    views = given()
    found = []
    for pieces in (1, 3):
        method = built().eval()  # batch norm of a piece is that of the piece
        fabric = make_fabric("cpu", "float32")
        network = fabric.setup(Step(method))
        network.eval()
        total, _ = Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=pieces)(views)
        found.append((total, [p.grad for p in method.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def plain():
    encoder, head, _ = networks()
    return Distillation(encoder, head).double()


def total_and_gradient(rank, group, views, state):
    method = plain()
    method.load_state_dict(state)
    method.group = group
    loss = method(views)
    loss.total.backward()
    return loss.total.detach(), [p.grad for p in method.parameters()]


@pytest.mark.parametrize("counts", [(7, 3), (8, 0)], ids=str)
def test_ranks_equal_one_process(ranks, counts):
    torch.manual_seed(3)
    state = plain().state_dict()
    views = [[torch.randn(n, w, dtype=torch.float64) for w in (CHANNELS, CHANNELS, 6)] for n in counts]
    for mine in views:
        mine[-1] = functional.normalize(mine[-1], dim=1)[:, :, None, None]
    whole = [torch.cat(v) for v in zip(*views, strict=True)]
    total, gradients = total_and_gradient(0, False, whole, state)
    outcomes = ranks.run(total_and_gradient, 2, [(mine, copy.deepcopy(state)) for mine in views])
    for theirs, _ in outcomes:
        torch.testing.assert_close(theirs, total, rtol=1e-9, atol=1e-10)
    for k, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(o[1][k] for o in outcomes) / 2, gradient, rtol=1e-7, atol=1e-9)


# --- targets --------------------------------------------------------------------------------------------------


def by_numpy(features, dim):
    """The definition, by another route: a singular value decomposition."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centred = unit - unit.mean(0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    found = centred @ right[:dim].T
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_targets_are_the_centred_directions_of_the_features():
    features = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) + 3
    for dim in (5, 12):
        ours = distillation_targets(features, dim)
        theirs = by_numpy(features.double().numpy(), dim)
        torch.testing.assert_close(
            ours @ ours.T, torch.tensor(theirs @ theirs.T).float(), rtol=1e-4, atol=1e-5
        )
    whole = distillation_targets(features, 12)  # all directions: angles are those of the centred features
    unit = functional.normalize(features, dim=1)
    expected = functional.normalize(unit - unit.mean(0), dim=1)
    torch.testing.assert_close(whole @ whole.T, expected @ expected.T, rtol=1e-4, atol=1e-4)


def test_targets_wider_than_the_features_end_in_zeros():
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    targets = distillation_targets(features, 8)
    assert targets.shape == (6, 8)
    assert not targets[:, 3:].any()
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(6))


def test_rows_that_are_not_finite_stay_so_and_change_no_other():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    spoilt = torch.cat([features[:3], torch.full((1, 6), float("nan")), features[3:]])
    targets = distillation_targets(spoilt, 4)
    assert targets[3].isnan().all()
    torch.testing.assert_close(targets[[0, 1, 2, *range(4, 21)]], distillation_targets(features, 4))
    with pytest.raises(ValueError, match="got features of 1 images"):
        distillation_targets(spoilt[2:4], 4)
