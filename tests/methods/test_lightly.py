"""Our losses against lightly's classes, to float32 accuracy; where conventions differ the test says how."""

import warnings

import pytest
import torch
from torch import nn

from isosphere.discrepancies import SIGReg
from isosphere.methods import BYOL, JEPA, BarlowTwins, SimCLR, SimSiam, VICReg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed: pip install lightly")
    lejepa_loss = pytest.importorskip("lightly.loss.lejepa_loss", reason="this lightly has no LeJEPA")

N, D = 24, 16


def views(count=2, scale=1.0):
    x = torch.randn(1, N, D)
    return (scale * (x + 0.5 * torch.randn(count, N, D))).requires_grad_()


def assert_same_up_to(factor, ours, theirs, z):
    """The same value, and the same gradient, of losses of the embeddings z: ours = factor * theirs."""
    torch.testing.assert_close(ours, factor * theirs, rtol=1e-5, atol=1e-6)
    (a,) = torch.autograd.grad(ours, z)
    (b,) = torch.autograd.grad(factor * theirs, z)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr(temperature):
    z = views()
    ours = SimCLR(nn.Identity(), nn.Identity(), temperature=temperature)([z[0], z[1]]).total
    theirs = lightly.NTXentLoss(temperature=temperature, memory_bank_size=0)(z[0], z[1])
    assert_same_up_to(1, ours, theirs, z)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_vicreg(scale):
    z = views(scale=scale)
    ours = VICReg(nn.Identity(), nn.Identity())([z[0], z[1]]).total
    theirs = lightly.VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0)(z[0], z[1])
    assert_same_up_to(1, ours, theirs, z)


def test_barlow_twins():
    z = views()
    ours = BarlowTwins(nn.Identity(), nn.Identity(), weight=0.005)([z[0], z[1]]).total
    theirs = lightly.BarlowTwinsLoss(lambda_param=0.005)(z[0], z[1])
    assert_same_up_to(1, ours, theirs, z)


def test_simsiam():
    """The mean of both directions of lightly's negative cosine similarity, targets detached by the caller."""
    predictor = nn.Linear(D, D)
    method = SimSiam(nn.Identity(), nn.Identity(), predictor)
    z = views()
    ours = method([z[0], z[1]]).total
    criterion = lightly.NegativeCosineSimilarity()
    p = [predictor(v) for v in z]
    theirs = (criterion(p[0], z[1].detach()) + criterion(p[1], z[0].detach())) / 2
    assert_same_up_to(1, ours, theirs, z)


def test_byol():
    """lightly's examples average both directions of the negative cosine: |p - z|^2 = 2 + 2 nc, and we sum them."""
    predictor = nn.Linear(D, D)
    method = BYOL(nn.Identity(), nn.Linear(D, D), predictor)
    x = views()
    ours = method([x[0], x[1]]).total
    criterion = lightly.NegativeCosineSimilarity()
    p, t = [predictor(method.head(v)) for v in x], [method.teacher(v) for v in x]
    theirs = (criterion(p[0], t[1]) + criterion(p[1], t[0])) / 2
    assert_same_up_to(4, ours, 1 + theirs, x)


class SameDirections(lejepa_loss.SIGReg):
    """lightly's statistic along our directions (theirs come from the global generator)."""

    def __init__(self, ours, **options):
        super().__init__(num_vectors=ours.num_slices, **options)
        self.ours = ours

    def _generate_unit_vectors(self, device, dtype, num_features):
        return self.ours.directions(torch.zeros(1, num_features, dtype=dtype, device=device)).T


def our_sigreg():
    """17 knots on [0, 3] with doubled weights are the 33 symmetric knots on [-3, 3]."""
    return SIGReg(D, num_slices=64, knots=33, reach=3.0)


def test_sigreg():
    z, ours = views(), our_sigreg()
    theirs = SameDirections(ours)
    for view in z:  # per view
        torch.testing.assert_close(ours(view), theirs(view), rtol=1e-5, atol=1e-6)
    # A stack of views has the mean of their statistics: per view, not pooled.
    assert_same_up_to(1, ours(z).mean(), theirs(z), z)


@pytest.mark.parametrize("lam", [0.02, 0.05, 0.5])
def test_lejepa_with_the_converted_weight(lam):
    """lightly: (1 - lam) * invariance averaged over dimensions + lam * SIGReg. Ours sums over them: a factor d."""
    z, ours = views(4), our_sigreg()
    odds = D * lam / (1 - lam)
    weight = odds / (1 + odds)
    method = JEPA(nn.Identity(), nn.Identity(), ours, weight=weight)
    theirs = lejepa_loss.LeJEPALoss(lambda_param=lam)
    theirs.sigreg = SameDirections(ours)
    loss = theirs(local_proj=z[2:], global_proj=z[:2])
    assert_same_up_to(weight / lam, method(list(z)).total, loss, z)


def test_the_teachers_schedule():
    """lightly's cosine schedule of the momentum is BYOL's with its last step at K = max_steps - 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = pytest.importorskip("lightly.utils.scheduler").cosine_schedule
    from isosphere.methods import teacher_momentum

    for step in range(11):
        theirs = schedule(step=step, max_steps=11, start_value=0.99, end_value=1.0)
        assert teacher_momentum(0.99, step / 10) == pytest.approx(theirs, abs=1e-12)


def test_heads_have_the_layers_of_lightlys():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heads = pytest.importorskip("lightly.models.modules.heads")
    from isosphere.models import ProjectionHead

    def shapes(module):
        return [
            (type(m).__name__, tuple(p.shape))
            for m in module.modules()
            if isinstance(m, nn.Linear | nn.BatchNorm1d)
            for p in m.parameters()
            if isinstance(m, nn.BatchNorm1d) or p.ndim == 2
        ]

    pairs = [
        (heads.SimCLRProjectionHead(20, 16, 8), ProjectionHead(20, 8, 16, last="normalised")),
        (heads.SimSiamProjectionHead(20, 16, 8), ProjectionHead(20, 8, 16, 3, last="standardised")),
        (heads.SimSiamPredictionHead(8, 4, 8), ProjectionHead(8, 8, 4, bias=True)),
        (heads.BYOLProjectionHead(20, 16, 8), ProjectionHead(20, 8, 16)),
        (heads.BarlowTwinsProjectionHead(20, 16, 8), ProjectionHead(20, 8, 16, 3)),
    ]
    for theirs, ours in pairs:
        assert shapes(ours) == shapes(theirs), type(theirs).__name__
