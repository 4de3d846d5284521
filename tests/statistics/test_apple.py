"""Where a device has no float64, statistics are computed on the CPU, with the numbers that they have there."""

from contextlib import nullcontext

import pytest
import torch

from isosphere import statistics
from isosphere.discrepancies import build_discrepancy
from isosphere.evaluation import WCCN, geometry, knn_predict, ood_scores
from isosphere.models import fit_adaptation
from isosphere.reductions import _precision
from isosphere.sphere import normalize
from isosphere.statistics import local_intrinsic_dimensions, normalised_mutual_information
from isosphere.training import collapse_metrics
from tests.apple import NAME, Apple, AppleGPU

Z = normalize(torch.randn(48, 8, generator=torch.Generator().manual_seed(0)))
VIEWS = torch.stack([Z, normalize(Z + 0.1 * Z.roll(1, 0))])
LABELS = torch.arange(48) % 3


@pytest.fixture(autouse=True)
def without_float64(monkeypatch):
    monkeypatch.setattr(_precision, "WITHOUT_FLOAT64", {NAME})
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device


OF_ROWS = (
    "mean_cosine",
    "uniformity",
    "covariance_spectrum",
    "effective_rank",
    "participation_ratio",
    "rankme",
)
OF_VIEWS = ("alignment", "lidar", "within_share", "within_covariance")
OF_LABELS = ("class_angles", "fisher_ratio", "silhouettes")
LOOKS = {
    **{name: lambda at, name=name: getattr(statistics, name)(at(Z)) for name in OF_ROWS},
    **{name: lambda at, name=name: getattr(statistics, name)(at(VIEWS)) for name in OF_VIEWS},
    **{name: lambda at, name=name: getattr(statistics, name)(at(Z), at(LABELS)) for name in OF_LABELS},
    "local_intrinsic_dimensions": lambda at: local_intrinsic_dimensions(at(Z), 5),
    "kmeans": lambda at: statistics.kmeans(at(Z), 3)[0],
    "normalised_mutual_information": lambda at: normalised_mutual_information(at(LABELS), at(LABELS // 2)),
    "collapse_metrics": lambda at: torch.tensor(list(collapse_metrics(*at(VIEWS)).as_row().values())),
    "WCCN": lambda at: WCCN.fit(at(VIEWS))(at(Z)),
    "adaptation": lambda at: fit_adaptation(at(VIEWS))(at(Z)),
    "knn": lambda at: knn_predict(at(Z), at(LABELS), at(Z), k=5),
    "geometry": lambda at: torch.tensor([e.value for e in geometry(at(Z), views=at(VIEWS)).values()]),
    "ood": lambda at: torch.stack(list(ood_scores(at(Z), at(Z)).values())),
}


@pytest.mark.parametrize("name", LOOKS)
def test_statistics(name):
    with AppleGPU(), torch.no_grad():
        found = LOOKS[name](Apple).cpu()
    torch.testing.assert_close(found.double(), LOOKS[name](lambda x: x).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["energy", "rayleigh", "mmd-bandlimited"])
def test_discrepancies_and_their_p_values(name):
    statistic = build_discrepancy(name, 8)
    with AppleGPU(), torch.no_grad():
        z = Apple(Z)
        found = statistic(z).cpu(), statistic.pvalue(z).cpu()
    torch.testing.assert_close(found, (statistic(Z), statistic.pvalue(Z)), rtol=1e-4, atol=1e-5)
