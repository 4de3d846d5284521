"""The gradient of a batch in pieces is that of the whole batch."""

import copy

import pytest
import torch
from torch import nn

from isosphere.errors import UsageError
from isosphere.methods import build_method
from isosphere.models import build_encoder
from isosphere.training import Differentiator, Step, StepTimer, make_fabric
from isosphere.training._gradient import check_micro_batch
from tests.names import FROM_VIEWS

ROWS, PIECES, SIZE = 24, 3, 16
DIVISIBLE = [name for name in FROM_VIEWS if name != "byol-mhe"]


def some_method(name, *, dropout=0.0):
    torch.manual_seed(0)
    encoder = build_encoder("small-conv", image_size=SIZE)
    widths = {} if name.startswith("vje") else {"dim": 8, "hidden": 16}
    method = build_method(name, encoder, **widths)
    if dropout:
        method.head = nn.Sequential(nn.Dropout(dropout), method.head)
    return method.prepare(n=ROWS, views=2)


def some_views(seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(ROWS, 3, SIZE, SIZE, generator=generator)
    return [image + 0.5 * torch.randn(image.shape, generator=generator) for _ in range(2)]


def pieces_of_views():
    return [list(piece) for piece in zip(*(view.chunk(PIECES) for view in some_views()), strict=True)]


def differentiator(method, pieces, precision="float32"):
    fabric = make_fabric("cpu", precision)
    network = fabric.setup(Step(method))
    return Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=pieces)


def freeze_norms(method):
    for part in method.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def gradients(method):
    return {name: p.grad for name, p in method.named_parameters() if p.requires_grad}


def assert_close(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    size = torch.cat([g.flatten() for g in theirs.values()]).norm()
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).norm() <= tolerance * size, name


@pytest.mark.parametrize("name", DIVISIBLE)
def test_with_frozen_norms_pieces_have_the_gradient_of_the_whole(name):
    """Every method: values to 1e-5, the gradient to 1e-5 of its length; weights that are found are the same."""
    whole = some_method(name).train()
    freeze_norms(whole)
    parts = copy.deepcopy(whole)
    total, terms = differentiator(whole, 1)(some_views())
    again, others = differentiator(parts, PIECES)(some_views())
    assert again.item() == pytest.approx(total.item(), rel=1e-5, abs=1e-6)
    assert {k: v.item() for k, v in others.items()} == pytest.approx(
        {k: v.item() for k, v in terms.items()}, rel=1e-4, abs=1e-6
    )
    assert not again.requires_grad
    assert_close(gradients(parts), gradients(whole), 1e-5)
    for key, value in whole.state_dict().items():
        if torch.is_tensor(value) and value.is_floating_point():
            torch.testing.assert_close(parts.state_dict()[key], value, equal_nan=True)


@pytest.mark.parametrize("name", ["kl-vmf", "byol"])
def test_with_batch_norm_each_piece_is_a_batch_of_its_own(name):
    """Against the same meaning with all graphs kept; running statistics move once a piece; dropout draws alike."""
    direct = some_method(name, dropout=0.2).train()
    pieced = copy.deepcopy(direct)
    torch.manual_seed(5)
    outputs = [direct.outputs(piece) for piece in pieces_of_views()]
    state = torch.get_rng_state()
    direct.loss(*(torch.cat(part, 1) for part in zip(*outputs, strict=True))).total.backward()
    torch.manual_seed(5)
    differentiator(pieced, PIECES)(some_views())
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(gradients(pieced), gradients(direct), 1e-6)
    norms = [k for k in direct.state_dict() if "running" in k or "tracked" in k]
    assert norms
    for key in norms:
        torch.testing.assert_close(pieced.state_dict()[key], direct.state_dict()[key], rtol=1e-6, atol=1e-7)
    tracked = [v for k, v in pieced.state_dict().items() if k.startswith("encoder") and "tracked" in k]
    assert {int(v) for v in tracked} == {PIECES}


def test_a_loss_in_pieces_is_not_the_mean_of_losses_of_pieces():
    """What plain accumulation would have: another value, by the pairs that it never sees."""
    method = some_method("simclr").train()
    freeze_norms(method)
    whole, _ = differentiator(method, PIECES)(some_views())
    plain = torch.stack([method(piece).total for piece in pieces_of_views()])
    assert (plain.mean() - whole).abs() > 0.5


def test_no_graph_of_the_whole_batch_is_kept():
    """Bytes that autograd keeps alive at once, counted: a third, of three pieces."""

    def peak(pieces):
        kept = [0, 0]

        class Handle:
            def __init__(self, tensor):
                self.tensor = tensor
                kept[0] += tensor.nbytes
                kept[1] = max(kept)

            def __del__(self):
                kept[0] -= self.tensor.nbytes

        method = some_method("kl-vmf").train()
        parameters = {p.data_ptr() for p in method.parameters()}
        pack = lambda t: t if t.data_ptr() in parameters else Handle(t)  # noqa: E731
        unpack = lambda h: h.tensor if isinstance(h, Handle) else h  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            differentiator(method, pieces)(some_views())
        return kept[1]

    assert peak(PIECES) < 0.4 * peak(1)


def test_what_cannot_be_divided_is_refused(tiny):
    with pytest.raises(UsageError, match=r"loss of the weights themselves\. Leave train\.micro_batch out"):
        differentiator(some_method("byol-mhe"), 2)

    class Undivided(tiny):
        def forward(self, views):
            return super().forward(views)

    with pytest.raises(UsageError, match="two halves"):
        differentiator(Undivided(), 2)
    differentiator(tiny(), 1)


def test_pieces_must_be_equal_and_shared_by_the_ranks():
    check_micro_batch(64, None, 3)
    check_micro_batch(64, 16, 4)
    check_micro_batch(64, 64, 1)
    for batch, micro, ranks, nearest in ((100, 30, 1, 25), (64, 128, 1, 64), (96, 15, 2, 16)):
        with pytest.raises(UsageError, match=f'give train={{"micro_batch": {nearest}}}'):
            check_micro_batch(batch, micro, ranks)
    with pytest.raises(UsageError, match="multiple of 3"):
        check_micro_batch(64, 16, 3)
