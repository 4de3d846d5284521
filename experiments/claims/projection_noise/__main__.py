"""How much of a sliced statistic's variance is the directions', and how much the batch's?

    python -m experiments.claims.projection_noise [--batches 48] [--draws 16] [--draw]

By the law of total variance, for M independent directions a and a batch Z,

    Var T = Var_Z E_a[T | Z] + E_Z Var_a[T | Z] / M  =  batch + slices,

and E_a[T | Z] is known without sampling: it is ``n * sum(weights) * (1 - p_0) * MMD(kernel)`` with the induced kernel.
So the batch's share is the variance of an exact statistic, and the slices' share is measured around it. The same for
the gradient with respect to the weights of a linear map before the normalisation (trace of its covariance). Three
states: near collapse, halfway, near uniformity (an offset of 5, 1, 0 times the spread). Every share is divided by the
squared mean (of the value above its value for uniform points; of the gradient's norm), so that 1 means noise as large
as the signal. Rows go to ``results.csv``.
"""

import itertools
import math
from pathlib import Path

import torch
from torch import Tensor

from experiments.command import count, integers, parser
from experiments.drawing import COLOURS, panels, save
from experiments.records import Table
from experiments.verdict import Figures, Verdict
from isosphere.discrepancies import MMD, Discrepancy, SUSReg
from isosphere.sphere import normalize

HERE = Path(__file__).parent
CLAIM = (
    "Averaged over directions SUSReg is the induced-kernel MMD, and removing the directions lowers the gradient's "
    "variance (2606.17603)"
)
COMMAND = "python -m experiments.claims.projection_noise"
STATES = {"near collapse": 5.0, "halfway": 1.0, "near uniformity": 0.0}
FEATURES = 64


def rows(n: int, dim: int, offset: float, generator: torch.Generator, weight: Tensor) -> Tensor:
    """Unit rows of a linear map of Gaussian features, pushed along one axis by ``offset`` times their spread."""
    x = torch.randn(n, FEATURES, generator=generator) @ weight
    return normalize(x + offset * dim**0.5 * torch.eye(dim)[0])


def value_and_gradient(
    test: Discrepancy, scale: float, offset: float, n: int, seed: int, weight: Tensor
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = weight.clone().requires_grad_()
    value = scale * test(rows(n, weight.shape[1], offset, generator, w))
    (gradient,) = torch.autograd.grad(value, w)
    return value.detach().double(), gradient.double().flatten()


def decompose(n: int, dim: int, slices: int, offset: float, batches: int, draws: int) -> dict[str, float]:
    sliced = SUSReg(dim, num_slices=slices)
    kernel = sliced.kernel()
    scale = n * sliced._rule.sum().item() * (1 - kernel.mean)
    weight = torch.randn(FEATURES, dim, generator=torch.Generator().manual_seed(0)) / FEATURES**0.5
    exact = [value_and_gradient(MMD(kernel), scale, offset, n, b, weight) for b in range(batches)]
    noise_value, noise_gradient = 0.0, 0.0
    for b, (value, gradient) in enumerate(exact):
        for _ in range(draws):
            noisy, noisy_gradient = value_and_gradient(sliced, 1.0, offset, n, b, weight)
            noise_value += (noisy - value).square().item() / (batches * draws)
            noise_gradient += (noisy_gradient - gradient).square().sum().item() / (batches * draws)
            sliced.after_step()
    values = torch.stack([v for v, _ in exact])
    gradients = torch.stack([g for _, g in exact])
    signal = (values.mean() - scale / n).square().item()
    batch_gradient = gradients.var(0).sum().item()
    signal_gradient = gradients.mean(0).square().sum().item() - batch_gradient / batches
    signal_gradient = (
        signal_gradient if signal_gradient > 0 else math.nan
    )  # drowned in the noise of the batches
    return {
        "value_batch": values.var().item() / signal,
        "value_slices": noise_value / signal,
        "gradient_batch": batch_gradient / signal_gradient,
        "gradient_slices": noise_gradient / signal_gradient,
    }


def verdict(rows: list[dict[str, str]]) -> Verdict:
    """From the shares at the most slices: how the directions' noise compares with the batch's."""
    n, slices = max(int(r["n"]) for r in rows), max(int(r["slices"]) for r in rows)
    chosen = [r for r in rows if (int(r["n"]), int(r["slices"])) == (n, slices)]
    shares = {
        (r["state"], int(r["dim"])): float(r["gradient_slices"]) / float(r["gradient_batch"]) for r in chosen
    }
    rates = []
    for state, dim in shares:
        few = next(
            r
            for r in rows
            if (r["state"], int(r["dim"]), int(r["n"])) == (state, dim, n) and r["slices"] == "64"
        )
        few_share = float(few["gradient_slices"]) / float(few["gradient_batch"])
        rates.append(math.log(few_share / shares[state, dim]) / math.log(slices / 64))
    dims = sorted({dim for _, dim in shares})
    needed = [share * slices / dim for (_, dim), share in shares.items()]
    return Verdict(
        "holds" if min(rates) > 0.9 and max(rates) < 1.1 else "does not hold",
        "The identity is a test, and so is that of SIGReg with the MMD to a Gaussian. The directions' noise of the "
        f"gradient falls as M^-{sum(rates) / len(rates):.2f} with "
        f"the number M of slices, and equals the batch's where M is {min(needed):.0f} to {max(needed):.0f} d",
        [
            Figures(
                f"Variance of SUSReg's gradient from {slices:,} directions over that from the batch, n = {n}",
                ["embeddings", *(f"d = {dim}" for dim in dims)],
                [
                    [state, *(f"{shares[state, d]:.2g}" if (state, d) in shares else "" for d in dims)]
                    for state in STATES
                ],
            )
        ],
        "what the noise costs in training: slices_in_training",
    )


def draw(table: Table, n: int, path: Path) -> None:
    figure, axes = panels(1, 3, width=3.3, height=2.9, sharey=True)
    for axis, state in zip(axes, STATES, strict=True):
        for i, dim in enumerate(sorted({int(r["dim"]) for r in table})):
            chosen = [r for r in table if (r["state"], int(r["n"]), int(r["dim"])) == (state, n, dim)]
            chosen.sort(key=lambda r: int(r["slices"]))
            m = [int(r["slices"]) for r in chosen]
            shares = [float(r["gradient_slices"]) / float(r["gradient_batch"]) for r in chosen]
            axis.plot(m, shares, "o-", color=COLOURS[i], markersize=3.5, label=f"d = {dim}")
        axis.axhline(1, color="#6b7480", linewidth=0.8, linestyle=":")
        axis.set(title=state, xlabel="slices", xscale="log", yscale="log")
    axes[0].set_ylabel("variance of the gradient:\nslices / batch")
    axes[0].legend(fontsize=8.5)
    save(figure, path)


def main() -> None:
    options = parser(__doc__, draw="measure")
    options.add_argument("--n", type=integers, default="64,256")
    options.add_argument("--dim", type=integers, default="32,128,512")
    options.add_argument("--slices", type=integers, default="16,64,256,1024")
    options.add_argument("--batches", type=count, default=48)
    options.add_argument("--draws", type=count, default=8)
    a = options.parse_args()
    torch.set_num_threads(1)
    values = ("value_batch", "value_slices", "gradient_batch", "gradient_slices", "batches", "draws")
    table = Table(HERE / "results.csv", ("state", "n", "dim", "slices"), values)
    sizes = itertools.product(a.n, a.dim, a.slices)
    for state, (n, dim, slices) in () if a.draw else itertools.product(STATES, sizes):
        row = {"state": state, "n": n, "dim": dim, "slices": slices}
        if row in table:
            continue
        found = decompose(n, dim, slices, STATES[state], a.batches, a.draws)
        table.append(
            row | {k: f"{v:.4g}" for k, v in found.items()} | {"batches": a.batches, "draws": a.draws}
        )
        print(row, {k: f"{v:.3g}" for k, v in found.items()}, flush=True)
    draw(table, max(a.n), HERE / "projection_noise.svg")


if __name__ == "__main__":
    main()
