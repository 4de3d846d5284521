"""Within-class covariance normalisation: what augmentation changes in an image counts less between neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.data import (
    ImageSet,
    PictureSet,
    Source,
    permutation,
    read_images,
    read_pictures,
    require_readable,
)
from isosphere.errors import RunError, command
from isosphere.evaluation._features import Encode, MakesViews, Progress, extract_views, first_two
from isosphere.reductions import in_float64
from isosphere.runs import RunFolder
from isosphere.statistics import within_root

SHRINKAGE = 0.3
"""Figures of others in docs/decisions.md."""

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class WCCN:
    r"""Within-class covariance normalisation with each image as a class of its own: features in which the views of an
    image differ nearly as much in every direction.

    .. math:: x \mapsto (x - \bar x) W_s^{-1/2}, \qquad W_s = (1 - s) \frac{p}{\operatorname{tr} W} W + s I, \qquad
              W = \frac{1}{n (V - 1)} \sum_{i, v} (x_{iv} - \bar x_i)(x_{iv} - \bar x_i)^\top

    No label is needed: what augmentation does to an image is what a neighbour should overlook.

    *Reference*: Hatch, Kajarekar and Stolcke, 2006.

    Shape: ``mean`` (p,), ``basis`` (p, p), the symmetric :math:`W_s^{-1/2}`; called with ``(n, p)``, float32 out.
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, views: Tensor, *, mean: Tensor | None = None, shrinkage: float = SHRINKAGE) -> "WCCN":
        """The normalisation of features of views.

        Args:
            views: ``(V, n, p)``, at least two views of some images, by the encoder's own recipe; n = 4 p of them are
                enough, p / 2 the least that helps.
            mean: ``(p,)``, the centre; that of the views if None.
            shrinkage: s in (0, 1]; 1 only centres, as views do that do not differ at all.

        Raises: ValueError for another shape of the views, or a shrinkage outside (0, 1], or non-finite numbers.
        """
        if views.ndim != 3 or len(views) < 2 or views.shape[1] == 0 or not 0 < shrinkage <= 1:
            raise ValueError(
                f"views, shrinkage: got shape {tuple(views.shape)} and {shrinkage}, expected (at least 2 views, "
                "images, features) and a shrinkage above 0, at most 1 (centred only)"
            )
        x = in_float64(views)
        if not torch.isfinite(x.sum()):
            raise ValueError("views: got non-finite numbers, expected finite ones")
        basis = within_root(x, shrinkage)
        centre = x.mean((0, 1)) if mean is None else mean
        return cls(centre.float().to(views.device), basis.float().to(views.device))

    @classmethod
    def of_run(cls, folder: RunFolder, dim: int) -> "WCCN | None":
        """That of a run, for features of `dim` numbers; None where it has none.

        Raises: RunError if its file is damaged, or belongs to another encoder.
        """
        state = folder.read_wccn()
        if state is None:
            return None
        mean, basis = (state.get(name, torch.empty(0)) for name in ("mean", "basis"))
        sound = mean.shape == (dim,) and basis.ndim == 2 and len(basis) == dim and basis.shape[1] > 0
        if not (sound and mean.is_floating_point() and basis.is_floating_point()):
            raise RunError(
                f"{folder.wccn} is none of an encoder of {dim} features: remove it, and go on with the run "
                f"({command('train', 'DATA', out=folder.path, resume=True)}), which writes it anew."
            )
        return cls(mean.float(), basis.float())

    def keep(self, folder: RunFolder) -> None:
        """Write it beside the weights of the run that it belongs to."""
        folder.write_wccn({"mean": self.mean, "basis": self.basis})

    def __call__(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean.to(features.device)) @ self.basis.to(features.device)


def learn_wccn(
    encode: Encode,
    images: ImageSet | PictureSet | Source,
    views: MakesViews,
    *,
    canvas: int,
    whole: bool = False,
    count: int = 1024,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> WCCN:
    """WCCN of an encoder's features, from the first two views of some of the images that it was trained on.

    Args:
        encode, views: as of :func:`extract_views`; of the encoder's own training. This rank alone computes.
        images: of a source, those that are drawn are decoded to squares of `canvas` pixels a side, or with `whole` to
            pictures of that short side.
        count: how many are drawn; all where there are fewer. seed: of the draw and of the views.
        progress: called with (images done, images in all).

    Raises: RunError if none of the images that were drawn can be read.
    """
    drawn = images.subset(permutation(len(images), seed, 0)[:count].numpy())
    seen: list[Tensor] = []
    skipped: list[tuple[str, str]] = []
    for block, positions in enumerate(torch.arange(len(drawn)).split(_BLOCK)):
        part = drawn.subset(positions.numpy())
        if isinstance(part, Source):
            part = (read_pictures if whole else read_images)(part, canvas, workers=workers)
        if len(part):
            # Images are numbered anew in each block: in another epoch they do not share their crops.
            found = extract_views(encode, part, first_two(views), epoch=block, seed=seed, group=False)
            seen.append(torch.stack([features.backbone for features in found]))
        skipped += part.skipped
        if progress is not None:
            progress(int(positions[-1]) + 1, len(drawn))
    if isinstance(drawn, Source):
        require_readable(drawn, len(seen), skipped, strict=False)
    return WCCN.fit(torch.cat(seen, 1))
