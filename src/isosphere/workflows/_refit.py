"""A new version of a run beside it: fitted to all images of its collection, or trained further on them."""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isosphere.atomic import write_json
from isosphere.data import Source, joined, match_labels, permutation, read_label_file
from isosphere.errors import IsosphereError, UsageError, command, option, plural
from isosphere.evaluation import Estimate, bootstrap, knn_predict, paired_difference
from isosphere.runs import RunFolder
from isosphere.statistics import neighbours_kept
from isosphere.workflows._adapt import PIXELS, adapt
from isosphere.workflows._collection import Collection, Listed, pixels_key, together
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._run import Run, load
from isosphere.workflows._train import train

COMPARED = 2000
"""Images by which two versions are compared, drawn from more."""
NEIGHBOURS = 20
_FEWEST = 20
"""Labelled images from which on accuracy is told."""


@dataclass(frozen=True, eq=False)
class Version:
    """A new version of a run: `neighbours`, the share of the 20 nearest neighbours of an image that are kept, over
    `compared` images; the k-NN `accuracy` on labelled ones before and now, with the `gain`, None without labels;
    `again`: images that have to pass through the new network.
    """

    run: Run
    before: Run
    images: int
    compared: int
    neighbours: Estimate
    again: int
    accuracy: tuple[Estimate, Estimate] | None = None
    gain: Estimate | None = None
    labelled: int = 0

    @property
    def facts(self) -> dict[str, str]:
        """What has changed, in words."""
        kept, path = self.neighbours, self.run.folder.path
        found = {
            "version": f"{path}, of {plural(self.images, 'image')}; {self.before.folder.path} is as it was",
            "neighbours": f"{kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}] of the {NEIGHBOURS} nearest are kept, "
            f"among {self.compared:,} images",
        }
        if self.accuracy is not None and self.gain is not None:
            before, now = (f"{each.value:.1%}" for each in self.accuracy)
            found["accuracy"] = (
                f"{before} before, {now} now (difference {100 * self.gain.value:+.1f} [{100 * self.gain.low:+.1f}, "
                f"{100 * self.gain.high:+.1f}] points), k-NN on {self.labelled:,} labelled images"
            )
        found["embed again"] = (
            f"no image passes through the network again: vectors of {plural(self.images, 'image')} are made anew from "
            "kept features when they are asked for"
            if not self.again
            else f"{plural(self.again, 'image')}, when they are asked for"
        )
        if (self.before.folder.path / "probe.safetensors").exists():
            found["classifier"] = (
                f"it belongs to {self.before.folder.path}: fit one anew, "
                f"{command('probe', path, 'DATA', labels='FILE')}"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        accuracy = None
        if self.accuracy is not None and self.gain is not None:
            before, now = (each.as_dict() for each in self.accuracy)
            accuracy = {"before": before, "now": now, "gain": self.gain.as_dict(), "images": self.labelled}
        return {
            **{"version": str(self.run.folder.path), "of": str(self.before.folder.path)},
            **{
                "images": self.images,
                "neighbours_kept": self.neighbours.as_dict(),
                "compared": self.compared,
            },
            **{"accuracy": accuracy, "embed_again": self.again},
        }


def check_refit(run: Run, epochs: int | None) -> None:
    """Raises: UsageError for a run that cannot have a new version, or not in this way."""
    if run.network is not None:
        raise UsageError(
            f"{run.called} is a network as it is, and nothing of it was fitted: adapt it, "
            f"{command('adapt', 'DATA', encoder=run.encoder.name, out='RUN')}"
        )
    if run.frozen and epochs is not None:
        raise UsageError(
            f"{option('epochs', epochs)}: the network of {run.folder.path} is as it was given, and is not trained: "
            f"give {option('refit', True)} alone."
        )
    if not run.frozen and epochs is None:
        raise UsageError(
            f"{run.folder.path} was trained: say for how long it goes on, {option('epochs', 10)}."
        )


@keywords_checked
def refit(run: Run | str | Path, *, epochs: int | None = None, progress: bool = True) -> Version:
    """A new version of a run, ``RUN@2`` beside it, from all images of its collection; the run stays as it is.

    Of an adapted network the adaptation is fitted anew, to all of them, or as many as ``data.limit`` says. A network
    that was trained goes on for so many `epochs` from its weights, as ``isosphere.train(init=RUN)``. After an
    interruption the same call goes on.

    Raises: UsageError for a run without a recorded collection, or that cannot be refitted so.
    """
    run = run if isinstance(run, Run) else load(run)
    check_refit(run, epochs)
    kept = Collection.read(run.folder)
    if kept is None:
        raise UsageError(
            f"{run.folder.path} has no record of its images: {command('update', run.folder.path, 'NEW')}"
        )
    run, sources = kept.frozen(run), kept.sources()
    source, out = together(sources), next_version(run.folder.path)
    made = (
        _adapted(run, joined(kept.parts), out, progress)
        if epochs is None
        else _trained(run, joined(kept.parts), out, epochs, progress)
    )
    made = made.settled(source)[0]
    now = Listed.of(sources)
    found = _compared(run, made, source)
    Collection(
        kept.parts, now, np.zeros(len(now), bool), made.identity, pixels_key(made), made.reading.white
    ).write(made.folder)
    again = 0 if epochs is None else found["images"] - found["compared"]
    version = Version(made, run, again=again, **found)
    # The last thing that is written: a version without it is not finished.
    write_json(made.folder.version, {**version.as_dict(), "network": made.identity, "before": run.identity})
    return version


def next_version(path: Path) -> Path:
    """Where the next version of a run lies: ``RUN@2`` beside it, then ``RUN@3``; an unfinished one is gone on with."""
    stem = re.sub(r"@\d+$", "", path.resolve().name)
    places = (path.with_name(f"{stem}@{k}") for k in count(2))
    return next(each for each in places if not each.exists() or not RunFolder(each).version.exists())


def _adapted(run: Run, data: str, out: Path, progress: bool) -> Run:
    part = out.with_name(f".{out.name}.part")
    config = run.config
    pixels = {key: value for key in PIXELS if (value := getattr(config.data, key.split(".")[1])) is not None}
    if not RunFolder(out).config.exists():
        shutil.rmtree(part, ignore_errors=True)  # of one that was killed; features of views are elsewhere
        adapt(
            data,
            part,
            init=run.folder.path,
            views=int(config.views.overrides["global_views"]),
            image_size=run.size,
            limit=config.data.limit,
            seed=config.train.seed,
            set=pixels,
            device=run.device.type,
            progress=progress,
        )
        part.replace(out)
    _share_features(run.folder.path / "features", out / "features")
    return load(out, device=run.device.type)


def _share_features(old: Path, new: Path) -> None:
    """The same weights give the same features: those that are kept are linked, or copied where that cannot be."""
    with suppress(OSError):
        new.mkdir(exist_ok=True)
        for file in old.glob("*.safetensors"):
            if file.is_file() and not file.is_symlink() and not (new / file.name).exists():
                try:
                    os.link(file, new / file.name)
                except OSError:
                    shutil.copy2(file, new / file.name)


def _trained(run: Run, data: str, out: Path, epochs: int, progress: bool) -> Run:
    return train(
        data,
        out,
        init=run.folder.path,
        epochs=epochs,
        config=_same_method(run.config.as_mapping()),
        resume=out.exists(),
        device=run.device.type,
        progress=progress,
    )


def _same_method(config: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the next training has in common: pictures, views, network and method, not the pace of a first training."""
    chosen = {
        "data": ("source", "family", "classes", "held_out", "epoch_images"),
        "model": ("init", "batch_norm", "freeze", "partial"),
        "views": (),
        "method": (),
    }
    found = {
        section: {key: value for key, value in config[section].items() if key not in left}
        for section, left in chosen.items()
    }
    names = ("batch_size", "seed", "precision", "tensorboard", "monitor", "knn_epochs", "micro_batch")
    return found | {"train": {name: config["train"][name] for name in names}}


def _compared(before: Run, now: Run, source: Source) -> dict[str, Any]:
    """The same images by both versions: neighbours kept, and accuracy where there are labels."""
    index = before.index(source)
    assert index.positions is not None
    some = np.sort(index.positions[permutation(len(index), 0, 5).numpy()[:COMPARED]])
    part = source.subset(some)
    new = now.index(part)
    assert new.positions is not None
    part, some = part.subset(new.positions), some[new.positions]
    old = index.unit[torch.from_numpy(np.searchsorted(index.positions, some))]
    if len(some) < 3:
        raise UsageError(f"{plural(len(some), 'image')} cannot be compared: add some first.")
    k = min(NEIGHBOURS, len(some) - 1)
    shares = neighbours_kept(old, new.unit, k)
    found: dict[str, Any] = {"images": len(index), "compared": len(some)}
    found["neighbours"] = bootstrap(shares, unit_interval=True)
    labels = _labels(before, part)
    known = torch.from_numpy(np.flatnonzero(labels >= 0))
    y = torch.from_numpy(labels)[known]
    if len(y) < _FEWEST or len(y.unique()) < 2:
        return found
    right = [_held_out(x[known], y) for x in (old, new.unit)]
    return found | {
        "accuracy": tuple(bootstrap(each, unit_interval=True) for each in right),
        "gain": paired_difference(right[1], right[0]),
        "labelled": len(y),
    }


def _labels(run: Run, source: Source) -> NDArray[np.int64]:
    """Labels of the images: those given on the page of the run, else their classes."""
    file = run.folder.path / "labels.csv"
    if file.exists():
        with suppress(IsosphereError):
            found = match_labels(source, read_label_file(file)).labels
            if (found >= 0).sum() >= _FEWEST:
                return found
    return source.labels


def _held_out(x: Tensor, y: Tensor) -> Tensor:
    """Whether each row is given its label by the half of the rows that it is not in: float64 ``(n,)``."""
    order = permutation(len(y), 0, 6)
    halves = order[: len(y) // 2], order[len(y) // 2 :]
    right = torch.empty(len(y), dtype=torch.float64)
    for asked, bank in (halves, halves[::-1]):
        right[asked] = (knn_predict(x[bank], y[bank], x[asked]) == y[asked]).double()
    return right
