"""Discrepancies by name, with the papers' kernels."""

__all__ = ["DISCREPANCIES", "DiscrepancyEntry", "build_discrepancy"]

from collections.abc import Callable
from typing import NamedTuple

from isosphere.discrepancies._base import Discrepancy
from isosphere.discrepancies._energy import HypersphericalEnergy
from isosphere.discrepancies._gaussian import GaussianKSD, GaussianMMD
from isosphere.discrepancies._kl import KL
from isosphere.discrepancies._koleo import KoLeo
from isosphere.discrepancies._mixture import Mixture
from isosphere.discrepancies._mmd import KSD, MMD
from isosphere.discrepancies._moments import Bingham, Rayleigh
from isosphere.discrepancies._sliced import SIGReg, SUSReg
from isosphere.discrepancies._uniformity import Uniformity
from isosphere.discrepancies._visreg import VISReg
from isosphere.errors import UsageError, listing, nearest
from isosphere.kernels import BandlimitedKernel, HeatKernel, InducedKernel, VonMisesFisherKernel
from isosphere.reductions import Group


class DiscrepancyEntry(NamedTuple):
    summary: str
    build: Callable[..., Discrepancy]


def _heat(test: Callable[..., Discrepancy], papers: float | None = None) -> Callable[..., Discrepancy]:
    """``test`` with a heat kernel, by default of time ``papers/d``, or of the kernel's own concentration."""

    def build(
        dim: int, *, concentration: float | None = None, time: float | None = None, **options
    ) -> Discrepancy:
        if papers is not None and concentration is None and time is None:
            time = papers / dim
        return test(HeatKernel(dim, concentration=concentration, time=time), **options)

    return build


def _bandlimited(test: Callable[..., Discrepancy]) -> Callable[..., Discrepancy]:
    def build(dim: int, *, max_degree: int = BandlimitedKernel.max_degree, **options) -> Discrepancy:
        return test(BandlimitedKernel(dim, max_degree), **options)

    return build


def _kl_vmf(dim: int, *, concentration: float = VonMisesFisherKernel.concentration, **options) -> KL:
    return KL(VonMisesFisherKernel(dim, concentration), **options)


def _mmd_induced(dim: int, *, bandwidth: float | None = None, **options) -> MMD:
    """``bandwidth``: of a Gaussian window in place of SUSReg's own rule; the papers' printed kernel has 1."""
    kernel = SUSReg(dim).kernel() if bandwidth is None else InducedKernel(dim, bandwidth=bandwidth)
    return MMD(kernel, **options)


def _mmd_and_kl(dim: int, share: float = 0.5, *, group: Group = None) -> Mixture:
    """``share`` is the MMD's."""
    parts = MMD(HeatKernel(dim), group=group), KL(VonMisesFisherKernel(dim), group=group)
    return Mixture(parts, (share, 1 - share))


DISCREPANCIES: dict[str, DiscrepancyEntry] = {
    "mmd-heat": DiscrepancyEntry(
        "MMD, heat kernel (rho = 1.76, the paper's t = 5/d at d = 256)",
        _heat(MMD),
    ),
    "mmd-bandlimited": DiscrepancyEntry(
        "MMD, degrees 0 to 2: mean and covariance, O(n d^2)",
        _bandlimited(MMD),
    ),
    "mmd-induced": DiscrepancyEntry("MMD, the kernel that SUSReg estimates by slices", _mmd_induced),
    "ksd-heat": DiscrepancyEntry("kernel Stein discrepancy, heat kernel", _heat(KSD)),
    "ksd-bandlimited": DiscrepancyEntry("kernel Stein discrepancy, degrees 1 and 2", _bandlimited(KSD)),
    "kl-heat": DiscrepancyEntry(
        "KL of a kernel density estimate, heat kernel with the paper's t = 2/d",
        _heat(KL, papers=2.0),
    ),
    "kl-vmf": DiscrepancyEntry(
        "KL of a kernel density estimate, von Mises-Fisher kernel of concentration 10",
        _kl_vmf,
    ),
    "mmd+kl": DiscrepancyEntry("half MMD, heat kernel, and half KL, von Mises-Fisher kernel", _mmd_and_kl),
    "susreg": DiscrepancyEntry(
        "sliced test of uniformity, 1024 directions (SPHERE-JEPA)", lambda dim, **o: SUSReg(dim, **o)
    ),
    "sigreg": DiscrepancyEntry(
        "sliced test of normality, 1024 directions (LeJEPA)", lambda dim, **o: SIGReg(dim, **o)
    ),
    "kerjepa-mmd": DiscrepancyEntry(
        "MMD to the normal law, Gaussian kernel, rows not normalised (KerJEPA)",
        lambda dim, **o: GaussianMMD(dim, **o),
    ),
    "kerjepa-ksd": DiscrepancyEntry(
        "kernel Stein discrepancy to the normal law, IMQ kernel, rows not normalised (KerJEPA)",
        lambda dim, **o: GaussianKSD(dim, **o),
    ),
    "visreg": DiscrepancyEntry(
        "deviation of each coordinate and sliced Wasserstein distance to the normal law (VISReg)",
        lambda dim, **o: VISReg(dim, **o),
    ),
    "uniformity": DiscrepancyEntry(
        "log mean Gaussian potential (Wang and Isola)", lambda dim, **o: Uniformity(dim=dim, **o)
    ),
    "koleo": DiscrepancyEntry("nearest-neighbour entropy (KoLeo)", lambda dim, **o: KoLeo(dim=dim, **o)),
    "energy": DiscrepancyEntry(
        "Riesz energy, power 2 (hyperspherical energy)", lambda dim, **o: HypersphericalEnergy(dim=dim, **o)
    ),
    "rayleigh": DiscrepancyEntry(
        "Rayleigh's test: the mean, O(n d)", lambda dim, **o: Rayleigh(dim=dim, **o)
    ),
    "bingham": DiscrepancyEntry(
        "Bingham's test: the covariance, O(n d^2)", lambda dim, **o: Bingham(dim=dim, **o)
    ),
}


def build_discrepancy(name: str, dim: int, **options) -> Discrepancy:
    """Build a discrepancy by its name in :data:`DISCREPANCIES`; the nearest name is offered for an unknown one."""
    if name not in DISCREPANCIES:
        raise UsageError(
            f"Unknown discrepancy '{name}'.{nearest(name, DISCREPANCIES)} See {listing('discrepancies')}."
        )
    return DISCREPANCIES[name].build(dim, **options)
