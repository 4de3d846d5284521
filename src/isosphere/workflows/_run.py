"""A trained run in Python: evaluated, applied, handed on."""

from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere import deploy
from isosphere.data import WHOLE, Fit
from isosphere.deploy import DuplicateGroup, Exported, Index, Layer, Match
from isosphere.errors import UsageError, option
from isosphere.evaluation import Progress
from isosphere.workflows._evaluate import evaluate
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._report import report
from isosphere.workflows._shown import Shown, duplicate_groups, match_groups
from isosphere.workflows._trained import Trained


@dataclass(frozen=True, eq=False, repr=False)
class Run(Trained):
    """A trained run: its configuration, its method in evaluation mode, and what can be done with them.

    ``run.evaluate(data)``, ``run.embed(images)``, ``run.search(images, within=data)``, ``run.dedup(data)``,
    ``run.export("onnx")``, ``run.report()``. :func:`load` and :func:`isosphere.train` return one.
    """

    evaluate = evaluate
    report = report

    @keywords_checked
    def embed(
        self,
        images: Any,
        *,
        layer: Layer | str | None = None,
        passes: int | None = None,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings of images, float32 ``(n, d)``; kinds and errors as :func:`isosphere.deploy.embed_images`.

        `layer`: the first of ``run.layers`` if None. `passes` of each image, whose features are averaged; None: those
        of the run, 1 unless it is one of ``run.looking(2)``.
        """
        run = self if passes is None else self.looking(passes)
        return deploy.embed_images(run, images, layer=layer, batch_size=batch_size, progress=progress)

    @keywords_checked
    def index(
        self,
        data: Any,
        *,
        layer: Layer | str | None = None,
        fit: Fit = WHOLE,
        passes: int | None = None,
        progress: Progress | None = None,
    ) -> Index:
        """The images of `data` made searchable: read from the run's folder where they were seen before.

        `layer`: :attr:`isosphere.deploy.Embedder.search_layer` if None. `fit`: the whole picture brought to a
        square (``squeeze``), for neighbours and duplicates are to be alike in all of it; or between bars (``pad``);
        ``crop``: the central square, which :meth:`embed` sees. `passes` as there.
        """
        run = self.fitted(fit) if passes is None else self.fitted(fit).looking(passes)
        return deploy.open_index(run, data, layer=layer or self.search_layer, progress=progress)

    @keywords_checked
    def search(
        self,
        images: Any,
        within: Any,
        *,
        k: int = 5,
        layer: Layer | str | None = None,
        passes: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[Match]]:
        """The k images of `within` most similar to each image, by cosine, best first: one list an image; whole pictures
        are compared. A notebook shows their pictures.

        Args:
            images: as for :meth:`embed`.
            within: data to search, or the result of :meth:`index` (then its layer is used).
            layer: :attr:`isosphere.deploy.Embedder.search_layer` if None.
            k: how many; all where there are fewer.
            passes: as of :meth:`embed` (of an index, its own are taken).
        """
        index = (
            within
            if isinstance(within, Index)
            else self.index(within, layer=layer, passes=passes, progress=progress)
        )
        asking = self.fitted(index.fit).looking(index.passes)
        asking = replace(asking, reading=replace(asking.reading, white=index.white))
        found = index.search(asking.embed(images, layer=index.layer), k)
        return (
            found if index is within else Shown(found, partial(match_groups, within, reading=asking.reading))
        )

    @keywords_checked
    def dedup(
        self,
        data: Any,
        *,
        threshold: float = 0.99,
        layer: Layer | str = "backbone",
        progress: Progress | None = None,
    ) -> list[DuplicateGroup]:
        """Groups of images that are nearly the same in all of the picture, with their paths, the largest first; nothing
        is deleted. A notebook shows their pictures.

        `threshold` is the cosine from which two images are linked; see :func:`isosphere.deploy.near_duplicates`. Links
        to one file are one image.
        """
        source = deploy.source_of(data)
        run, _ = self.settled(source)
        index = run.index(source, layer=layer, progress=progress).of_files(source)
        groups = deploy.near_duplicates(index.unit, threshold, index.paths)
        return Shown(groups, partial(duplicate_groups, data, reading=run.reading))

    @keywords_checked
    def export(
        self,
        format: str,
        out: str | Path | None = None,
        *,
        layer: Layer | str | None = None,
        opset: int | None = None,
        dynamic_size: bool = False,
        overwrite: bool = False,
    ) -> Exported:
        """The encoder as timm, safetensors, onnx or hub, checked; :func:`isosphere.deploy.export`."""
        if self.network is not None and out is None:
            name = {"onnx": "encoder.onnx", "hub": "FOLDER"}.get(format, "encoder.safetensors")
            raise UsageError(f"{self.network} has no folder of its own: give {option('out', name)}.")
        chosen: dict[str, Any] = {"layer": layer, "opset": opset, "dynamic_size": dynamic_size}
        return deploy.export(self, format, out, overwrite=overwrite, **chosen)

    def __repr__(self) -> str:
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        passes = "" if self.passes == 1 else f", {self.passes} passes"
        role = "" if self.role == "student" else f", {self.role}"
        return (
            f"Run({self.called!r}, {self.encoder.name}, {self.size} px, {self.device}{epoch}{role}{passes})"
        )

    def _repr_html_(self) -> str:
        config, parameters = self.config, sum(p.numel() for p in self.encoder.parameters())
        rows = {
            "run": self.called,
            "data": config.data.source or "",
            "method": config.method.name,
            "encoder": f"{self.encoder.name}, {parameters / 1e6:.1f} M parameters, views of {self.size} px",
            "layers": ", ".join(self.layers),
            "device": str(self.device),
        }
        cells = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table>{''.join(cells)}</table>"


@keywords_checked
def load(
    path: str | Path,
    *,
    device: str | None = None,
    cache: bool = True,
    epoch: int | None = None,
    network: str = "student",
) -> Run:
    """A trained run, to be applied: ``load("runs/a").embed(images)``, ``.search(images, "PICTURES/")``.

    Args:
        path: the folder that was given to `isosphere train` or `adapt` as `out`; or a network of timm as it is,
            ``"timm:resnet50"``, or with the weights of a file, ``"timm:resnet50@FILE"``.
        device: where to compute; a GPU if torch has one.
        cache: keep the features of whole sets of images in the run's folder, and take those that
            ``isosphere evaluate`` or an earlier call has left there.
        epoch: the weights that were kept after it (``train.keep_every``); None: the last ones.
        network: ``student``, the one that learned, or ``teacher``, the slow copy that a method with one holds.

    Raises: isosphere.errors.UsageError if `path` is no run, has no weights of this epoch, or no teacher; RunError if
        its files are damaged.
    """
    return Run.read(path, device=device, cache=cache, epoch=epoch, network=network)
