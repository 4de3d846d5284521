"""The picture at the head of README: what alignment alone does to embeddings, and what uniformity does.

    python -m experiments.picture

Three encoders with embeddings on the sphere of R^3, of procedural textures of four families (made here, no
photographs): untrained; trained to agree on the views of an image and next to nothing else; trained by the library's
default. Two views of each of 400 test images are drawn, joined by a line. Under each sphere stands how often the other
view is the nearest among 100.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.command import count, parser
from experiments.drawing import COLOURS, panels, save
from isosphere import train
from isosphere.data import load_images, open_source
from isosphere.evaluation import extract_views, instance_retrieval
from isosphere.sphere import normalize

HERE = Path(__file__).parent
DATA = "textures:all?count=2000&test=100"
ARMS = {
    "untrained": {"train.epochs": 0},
    "views agree, nothing else": {"method.weight": 0.001},
    "views agree, images spread": {},
}


def embed(settings: dict[str, object], epochs: int) -> tuple[Tensor, np.ndarray, list[str]]:
    """Unit embeddings ``(2, n, 3)`` of two views of the test images, their labels and the names of the classes."""
    keys = {
        **{"data.limit": 4000, "data.canvas_size": 72, "data.image_size": 48},
        **{"model.encoder": "small-conv", "model.dim": 3, "model.hidden": 512, "train.batch_size": 200},
        **{"views.recipe": "textures", "train.epochs": epochs, "train.tensorboard": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = train(DATA, Path(folder) / "run", set=keys | settings, progress=False)
    source = open_source(DATA, split="test")
    images = load_images(source, run.canvas)
    first, second = extract_views(run.method.embed, images, run.views, seed=7)[:2]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    z = normalize(torch.stack([first.head, second.head]).float())[:, order]
    return z, np.asarray(images.labels)[order.numpy()], list(source.class_names)


def towards_the_eye(z: Tensor) -> Tensor:
    """Rotated so that the mean direction, where there is one, faces the reader."""
    mean = z.mean((0, 1))
    if mean.norm() < 0.2:
        return z
    basis = torch.linalg.qr(torch.cat([mean[:, None], torch.eye(3)[:, :2]], 1)).Q
    return z @ torch.stack([basis[:, 1], basis[:, 2], basis[:, 0] * (basis[:, 0] @ mean).sign()], 1)


def draw_sphere(axis, z: Tensor, labels: np.ndarray, names: list[str], title: str) -> None:
    found = instance_retrieval(z[0], z[1])["recall@1"].value
    z = towards_the_eye(z)
    angle = np.linspace(0, 2 * np.pi, 200)
    axis.fill(np.cos(angle), np.sin(angle), color="#f4f6f9", zorder=0)
    for latitude in np.linspace(-0.75, 0.75, 5) * np.pi / 2:
        x, y = np.cos(latitude) * np.cos(angle), np.full_like(angle, np.sin(latitude))
        depth = np.cos(latitude) * np.sin(angle)
        tilted = y * np.cos(0.35) - depth * np.sin(0.35)
        hidden = y * np.sin(0.35) + depth * np.cos(0.35) < 0
        axis.plot(np.where(hidden, np.nan, x), tilted, color="#dfe4ea", linewidth=0.7, zorder=1)
    axis.plot(np.cos(angle), np.sin(angle), color="#b9c2cc", linewidth=1.0, zorder=4)
    for i, name in enumerate(names):
        chosen = labels == i
        for front, alpha in ((False, 0.16), (True, 0.85)):
            a, b = (v[chosen].numpy() for v in z)
            keep = (a[:, 2] > 0) == front
            for p, q in zip(a[keep], b[keep], strict=True):
                axis.plot(
                    [p[0], q[0]],
                    [p[1], q[1]],
                    color=COLOURS[i],
                    alpha=0.35 * alpha,
                    linewidth=0.7,
                    zorder=3 if front else 2,
                )
            axis.scatter(
                np.r_[a[keep, 0], b[keep, 0]],
                np.r_[a[keep, 1], b[keep, 1]],
                s=6,
                color=COLOURS[i],
                alpha=alpha,
                linewidths=0,
                zorder=3 if front else 2,
                label=name if front else None,
            )
    axis.set_rasterization_zorder(3.5)  # thousands of dots: as an image within the picture
    axis.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
    axis.set_title(title, loc="center")
    axis.text(0, -1.2, f"other view found first: {100 * found:.0f} %", ha="center", fontsize=9)
    axis.axis("off")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=count, default=16)
    a = options.parse_args()
    figure, axes = panels(1, len(ARMS), width=3.0, height=3.2)
    figure.dpi = 220
    for axis, (title, settings) in zip(axes, ARMS.items(), strict=True):
        draw_sphere(axis, *embed(settings, a.epochs), title)
    handles, names = axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9, markerscale=2.5)
    save(figure, HERE / "spheres.svg")


if __name__ == "__main__":
    main()
