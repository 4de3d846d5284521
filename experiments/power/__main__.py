"""Which statistic sees which departure from uniformity? Power of tests at level 5 % against four alternatives.

    python -m experiments.power [--dim 64] [--points 128] [--draws 400] [--draw]

A statistic rejects where it exceeds the 95 % quantile of its values on 2,000 uniform samples, so all have the same
size; ``size_pvalue`` is how often ``pvalue(z) < 0.05`` on those. Alternatives, by growing strength: one von
Mises-Fisher pole; the same with random signs (axial); eight von Mises-Fisher clusters around uniform centres; and a
flattened law, half of whose coordinates are shrunk. Rows go to ``results.csv``; ``--draw`` only draws them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from experiments.command import count, parser
from experiments.drawing import COLOURS, panels, save
from experiments.records import Table
from isosphere.discrepancies import Discrepancy, build_discrepancy
from isosphere.evaluation import wilson
from isosphere.sphere import normalize, sample_uniform, sample_vmf

HERE = Path(__file__).parent
STATISTICS = (
    *("mmd-heat", "mmd-bandlimited", "ksd-heat", "kl-vmf", "susreg"),
    *("uniformity", "koleo", "energy", "rayleigh", "bingham"),
)
NULL_DRAWS = 2000
CLUSTERS = 8


def vmf(n: int, dim: int, strength: float, generator: torch.Generator) -> Tensor:
    pole = torch.eye(dim)[0]
    return sample_vmf(pole, strength, n, generator=generator) if strength else uniform(n, dim, generator)


def uniform(n: int, dim: int, generator: torch.Generator) -> Tensor:
    return sample_uniform(n, dim, generator=generator)


def axial(n: int, dim: int, strength: float, generator: torch.Generator) -> Tensor:
    signs = 1 - 2 * torch.randint(2, (n, 1), generator=generator)
    return signs * vmf(n, dim, strength, generator)


def clustered(n: int, dim: int, strength: float, generator: torch.Generator) -> Tensor:
    centres = uniform(CLUSTERS, dim, generator)
    sizes = torch.bincount(torch.randint(CLUSTERS, (n,), generator=generator), minlength=CLUSTERS)
    parts = [
        sample_vmf(c, strength, int(m), generator=generator) if strength else uniform(int(m), dim, generator)
        for c, m in zip(centres, sizes, strict=True)
        if m
    ]
    return torch.cat(parts)


def flattened(n: int, dim: int, strength: float, generator: torch.Generator) -> Tensor:
    scale = torch.ones(dim)
    scale[dim // 2 :] -= strength
    return normalize(torch.randn(n, dim, generator=generator) * scale)


ALTERNATIVES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "von Mises-Fisher": (vmf, "concentration"),
    "axial": (axial, "concentration"),
    "clustered": (clustered, "concentration"),
    "flattened": (flattened, "shrinkage of half the coordinates"),
}


def strengths(name: str, dim: int) -> list[float]:
    """From nothing to plain sight, in units at which the first moments show."""
    unit = {"von Mises-Fisher": 0.18, "axial": 0.75, "clustered": 0.55}
    if name == "flattened":
        return [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
    return [round(k * unit[name] * dim**0.5, 2) for k in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)]


@torch.no_grad()
def values(test: Discrepancy, samples: Iterable[Tensor]) -> Tensor:
    """One value a sample; random directions are drawn anew for each."""
    found = []
    for z in samples:
        found.append(test(z).double())
        test.after_step()
    return torch.stack(found)


def measure(table: Table, dim: int, points: int, draws: int) -> None:
    tests = {name: build_discrepancy(name, dim) for name in STATISTICS}
    generator = torch.Generator().manual_seed(0)
    null = [uniform(points, dim, generator) for _ in range(NULL_DRAWS)]
    for statistic, test in tests.items():
        jobs = [
            {"alternative": name, "strength": s, "statistic": statistic, "dim": dim, "points": points}
            for name in ALTERNATIVES
            for s in strengths(name, dim)
        ]
        if all(job in table for job in jobs):
            continue
        critical = values(test, null).quantile(0.95).item()
        size = torch.stack([test.pvalue(z) for z in null[:500]]).lt(0.05).double().mean().item()
        for job in jobs:
            if job in table:
                continue
            sample, _ = ALTERNATIVES[job["alternative"]]
            seeded = torch.Generator().manual_seed(1)  # all statistics see the same samples
            drawn = (sample(points, dim, job["strength"], seeded) for _ in range(draws))
            found = wilson(int((values(test, drawn) > critical).sum()), draws)
            table.append(
                job
                | {"draws": draws, "power": f"{found.value:.4f}", "size_pvalue": f"{size:.3f}"}
                | {"low": f"{found.low:.4f}", "high": f"{found.high:.4f}"}
            )
        print(f"{statistic}: pvalue < .05 on {100 * size:.1f} % of uniform samples", flush=True)


def draw(table: Table, dim: int, points: int, path: Path) -> None:
    figure, axes = panels(2, 2, width=3.9, height=2.7, sharey=True)
    for axis, (name, (_, unit)) in zip(axes.flat, ALTERNATIVES.items(), strict=True):
        for i, statistic in enumerate(STATISTICS):
            rows = [
                r
                for r in table
                if r["alternative"] == name
                and r["statistic"] == statistic
                and (int(r["dim"]), int(r["points"])) == (dim, points)
            ]
            rows.sort(key=lambda r: float(r["strength"]))
            x, low, high = ([float(r[k]) for r in rows] for k in ("strength", "low", "high"))
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": "-" if i < 5 else "--"}
            axis.plot(x, [float(r["power"]) for r in rows], label=statistic, linewidth=1.5, **style)
            axis.fill_between(x, low, high, color=style["color"], alpha=0.1, linewidth=0)
        axis.axhline(0.05, color="#6b7480", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel=unit, ylim=(0, 1.02))
    for axis in axes[:, 0]:
        axis.set_ylabel("power at level 5 %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8.5)
    save(figure, path)


def main() -> None:
    options = parser(__doc__, draw="measure")
    options.add_argument("--dim", type=count, default=64)
    options.add_argument("--points", type=count, default=128)
    options.add_argument("--draws", type=count, default=400)
    a = options.parse_args()
    torch.set_num_threads(1)
    key = ("alternative", "strength", "statistic", "dim", "points")
    table = Table(HERE / "results.csv", key, ("draws", "power", "low", "high", "size_pvalue"))
    if not a.draw:
        measure(table, a.dim, a.points, a.draws)
    draw(table, a.dim, a.points, HERE / f"power-{a.dim}-{a.points}.svg")


if __name__ == "__main__":
    main()
