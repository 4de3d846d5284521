"""How uncertain a run is of each image, where its method says so."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere import deploy
from isosphere.deploy import Index, Match
from isosphere.errors import UsageError, command
from isosphere.evaluation import Progress
from isosphere.workflows._trained import Trained

__all__ = ["match_uncertainty", "uncertainty"]

Uncertainty = Callable[[Tensor], Tensor]


def uncertainty(
    run: Trained, images: Any, *, batch_size: int = 256, progress: Progress | None = None
) -> NDArray[np.float32]:
    """How uncertain the run is of each image, float32 ``(n,)``, larger where less certain: of VJE the mean variance of
    its posterior (1: that of the prior), of VI-SimSiam the spherical variance of its law (1: uniform).

    `images` as for :func:`isosphere.deploy.embed_images`. Computed from the backbone's features, which are kept where
    images have a name.

    Raises: UsageError for a run of another method.
    """
    of_method: Uncertainty | None = getattr(run.method, "uncertainty", None)
    if of_method is None:
        raise UsageError(
            f"{run.called} was trained by {run.config.method.name}, which does not say how uncertain it is of an "
            "image: vje and vi-simsiam do. How far images are from those of the training is told for any run by "
            f"{command('evaluate', run.called, 'DATA', ood='OTHER')}."
        )
    features = deploy.embed_images(run, images, layer="backbone", batch_size=batch_size, progress=progress)
    rows = torch.from_numpy(features).to(run.device).split(4096)
    return torch.cat([of_method(part).float().cpu() for part in rows]).numpy()


def match_uncertainty(
    run: Trained, data: Any, index: Index, found: Sequence[Sequence[Match]]
) -> list[list[Match]]:
    """The matches with the run's uncertainty of each, looked at as the index was; as they are where its method has
    none. `data` is what the index was opened from.
    """
    if getattr(run.method, "uncertainty", None) is None or index.positions is None:
        return [list(matches) for matches in found]
    rows = sorted({match.row for matches in found for match in matches})
    source = deploy.source_of(data).subset(index.positions[rows])
    looking = run.fitted(index.fit).looking(index.passes)
    looking = replace(looking, reading=replace(looking.reading, white=index.white))
    values = dict(zip(rows, uncertainty(looking, source).tolist(), strict=True))
    return [[replace(match, uncertainty=values[match.row]) for match in matches] for matches in found]
