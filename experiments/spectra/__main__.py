"""Draw what the statistics differ in: the spectra of their kernels, and the kernels over the cosine.

python -m experiments.spectra [--dim 128]
"""

from pathlib import Path

import torch

from experiments.command import count, parser
from experiments.drawing import COLOURS, panels, save
from isosphere.kernels import (
    BandlimitedKernel,
    HeatKernel,
    InducedKernel,
    VonMisesFisherKernel,
    ZonalKernel,
    stein,
)

HERE = Path(__file__).parent
DEGREES = 31


def kernels(dim: int) -> dict[str, ZonalKernel]:
    return {
        "heat, t = log(d/1.76)/(d-1)": HeatKernel(dim),
        "bandlimited, L = 2": BandlimitedKernel(dim),
        "induced by SUSReg": InducedKernel(dim),
        "von Mises-Fisher, 10": VonMisesFisherKernel(dim),
        "heat, t = 2/d": HeatKernel(dim, time=2 / dim),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dim", type=count, default=128)
    dim = options.parse_args().dim
    figure, (plain, steined, profile) = panels(1, 3, width=3.4, height=3.1)
    cosines = torch.linspace(-1, 1, 401, dtype=torch.float64)
    for i, (name, kernel) in enumerate(kernels(dim).items()):
        for axis, p in ((plain, kernel.weights()), (steined, stein(kernel).weights())):
            p = p[:DEGREES].clone()
            p[p < 1e-6] = torch.nan
            axis.plot(range(len(p)), p, ".-", color=COLOURS[i], markersize=4.5, linewidth=1.2, label=name)
        profile.plot(cosines, kernel(cosines), color=COLOURS[i], linewidth=1.4)
    density = (1 - cosines**2).clamp(min=1e-300) ** ((dim - 3) / 2)
    profile.fill_between(cosines, density / density.max(), color="#8a8f98", alpha=0.25, linewidth=0)
    profile.annotate("cosines of\nuniform points", (0.06, 0.86), fontsize=8, color="#6b7480")
    plain.set(title="weight of a degree: MMD", xlabel="degree", ylabel="share of the kernel")
    steined.set(title="the same for KSD", xlabel="degree")
    profile.set(title="kernel over the cosine", xlabel="cosine of a pair", ylim=(-0.05, 1.05))
    figure.legend(*plain.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    save(figure, HERE / "spectra.svg")


if __name__ == "__main__":
    main()
