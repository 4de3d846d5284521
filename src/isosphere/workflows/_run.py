"""A trained run in Python: evaluated, applied, handed on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere import deploy
from isosphere.data import WHOLE, Fit, Source, join_sources, part_numbers
from isosphere.deploy import Exported, Index, Layer, Match
from isosphere.errors import UsageError, option
from isosphere.evaluation import Progress
from isosphere.workflows._copies import sample_copies
from isosphere.workflows._duplicates import Comparison, Duplicates, check_threshold, grouped, pairs_compared
from isosphere.workflows._evaluate import evaluate
from isosphere.workflows._itself import mark_itself
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._lists import (
    Cluster,
    How,
    Outlier,
    Selected,
    check_how,
    clusters_of,
    list_count,
    outliers_of,
    rows_of,
    select_from,
)
from isosphere.workflows._report import report
from isosphere.workflows._shown import Shown, match_groups
from isosphere.workflows._trained import Trained
from isosphere.workflows._uncertainty import match_uncertainty, uncertainty


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

        `layer`: the first of ``run.layers`` if None; ``posterior`` (VJE): d means, then d variances. `passes` of each
        image, whose features are averaged; None: those of the run, 1 unless it is one of ``run.looking(2)``.
        """
        run = self if passes is None else self.looking(passes)
        return deploy.embed_images(run, images, layer=layer, batch_size=batch_size, progress=progress)

    @keywords_checked
    def uncertainty(
        self, images: Any, *, batch_size: int = 256, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """How uncertain the run is of each image, float32 ``(n,)``, larger where less certain, of VJE and VI-SimSiam;
        images as for :meth:`embed`. The posterior itself is ``embed(images, layer="posterior")``.
        """
        return uncertainty(self, images, batch_size=batch_size, progress=progress)

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
        are compared. A notebook shows their pictures. A match has an ``uncertainty`` where the method says one, and
        ``itself`` says whether it holds the bytes of the image that was looked for.

        Args:
            images: as for :meth:`embed`.
            within: data to search, or the result of :meth:`index` (then its layer is used); or Parquet files of
                embeddings that isosphere embed wrote, with the same weights
                (:func:`isosphere.deploy.open_vector_index`).
            layer: :attr:`isosphere.deploy.Embedder.search_layer` if None.
            k: how many; all where there are fewer.
            passes: as of :meth:`embed` (of an index, its own are taken).
        """
        if isinstance(within, (str, Path)) and deploy.holds_vectors(within):
            vectors = deploy.open_vector_index(self, within, layer=layer, progress=progress)
            return vectors.search(deploy.embed_images(vectors.run, images, layer=vectors.layer), k)
        index = (
            within
            if isinstance(within, Index)
            else self.index(within, layer=layer, passes=passes, progress=progress)
        )
        asking = self.fitted(index.fit).looking(index.passes)
        asking = replace(asking, reading=replace(asking.reading, white=index.white))
        found = index.search(asking.embed(images, layer=index.layer), k)
        if index is within:
            return found
        found = match_uncertainty(self, within, index, found)
        found = mark_itself(images, within, index, found, channels=self.encoder.in_chans)
        return Shown(found, partial(match_groups, within, reading=asking.reading))

    @keywords_checked
    def dedup(
        self,
        data: Any,
        *,
        against: Any = None,
        threshold: float | None = None,
        false_pairs: float = 1.0,
        layer: Layer | str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Duplicates:
        """Groups of images that are nearly the same in all of the picture, with their paths, the largest first; nothing
        is deleted. A notebook shows their pictures.

        Args:
            against: another set, or a list of sources: only images of different sets are compared.
            threshold: the cosine from which two images are linked (:func:`isosphere.deploy.near_duplicates`). None: it
                is chosen on copies of these images, made by JPEG, resizing and slight crops: the lowest that finds
                them, unless more than `false_pairs` pairs of different images are to be expected
                (:func:`isosphere.evaluation.choose_threshold`).
            layer: None: with a threshold ``backbone``, else the one that finds the copies best.
            seed: of the copies.

        Links to one file are one image; between sets a file that is in several is found as its own copy.
        """
        check_threshold(threshold)
        source = deploy.source_of(data)
        if against is not None:
            several = isinstance(against, Sequence) and all(isinstance(each, Source) for each in against)
            source = join_sources([source, *(against if several else [deploy.source_of(against)])])
        run, white = self.settled(source)
        chosen = None if layer is None else run.check_layer(layer)
        sample = None
        if threshold is None:
            sample = sample_copies(run, source, layer=chosen, seed=seed, progress=progress)
        chosen = chosen or ("backbone" if sample is None else sample.best)
        whole = run.index(source, layer=chosen, progress=progress)
        numbers = None if against is None else part_numbers(source)
        made = whole.of_files(source, numbers)
        assert made.positions is not None
        of = None if numbers is None else numbers[made.positions]
        measured = None
        if sample is not None:
            measured = sample.choose(made, false_pairs=false_pairs, pairs=pairs_compared(of))
        cosine = threshold if measured is None else measured.threshold
        assert cosine is not None
        links = len(whole) - len(made)
        compared = Comparison(made, source.read_as(run.reading), of, cosine, measured, sample, white, links)
        return grouped(compared, source, run.reading)

    @keywords_checked
    def outliers(
        self,
        data: Any,
        k: int | None = None,
        *,
        layer: Layer | str | None = None,
        passes: int | None = None,
        progress: Progress | None = None,
    ) -> list[Outlier]:
        """The k images that lie farthest from the others, by the distance to their 10th nearest neighbour, of
        up to 30 images to the nearest third; all of them, ranked, if k is None.

        `data`: images, or the result of :meth:`index`. `layer`: of :meth:`index`.
        """
        return outliers_of(self._indexed(data, layer, passes, progress), k)

    @keywords_checked
    def subset(
        self,
        data: Any,
        k: int,
        how: How | str = "diverse",
        *,
        labelled: Any = None,
        layer: Layer | str | None = None,
        passes: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Selected]:
        """k images to be labelled first.

        Args:
            data: images, or the result of :meth:`index`.
            how: ``diverse``: each is the one that is farthest from those before it; outliers come early. ``typical``:
                the image in the densest place of each of k clusters, large clusters first.
            labelled: names of images that are labelled already, and are not chosen again.
            layer: of :meth:`index`. seed: of the clusters.
        """
        index = self._indexed(data, layer, passes, progress)
        return select_from(index, k, check_how(how), chosen=rows_of(index, labelled or ()), seed=seed)

    @keywords_checked
    def cluster(
        self,
        data: Any,
        k: int | None = None,
        *,
        layer: Layer | str | None = None,
        passes: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Cluster]:
        """k clusters of images, the largest first, each with the images nearest to its centre first.

        `data`: images, or the result of :meth:`index`. `k`: None: 20, of fewer than 100 images a fifth of them.
        """
        index = self._indexed(data, layer, passes, progress)
        return clusters_of(index, list_count(len(index), k), seed=seed)

    def _indexed(
        self, data: Any, layer: Layer | str | None, passes: int | None, progress: Progress | None
    ) -> Index:
        if isinstance(data, Index):
            return data
        source = deploy.source_of(data)
        index = self.settled(source)[0].index(source, layer=layer, passes=passes, progress=progress)
        return index.of_files(source)

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
