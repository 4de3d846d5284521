"""A frozen network adapted to a folder: some views of each image through it once, then its features transformed."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from rich.text import Text
from torch import Tensor

from isosphere.atomic import make_folder
from isosphere.data import (
    Pictures,
    Pixels,
    Source,
    White,
    as_name,
    digests,
    fingerprint,
    left_out,
    located,
    require_readable,
    set_aside,
)
from isosphere.deploy import rows_seen
from isosphere.errors import RunError, UsageError, command, option, plural, printable
from isosphere.evaluation import FeatureCache, MakesViews, unpacked, views_look
from isosphere.methods import FROZEN
from isosphere.models import Adaptation, fit_adaptation
from isosphere.runs import RunFolder
from isosphere.training import (
    Config,
    about_pixels,
    build_views,
    duration,
    load_config,
    open_training_source,
    parse_config,
    require_device,
    settle_channels,
    settle_white,
)
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._networks import RECOMMENDED, Network
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._run import Run, load
from isosphere.workflows._settings import flat, require_out
from isosphere.workflows._splits import sample
from isosphere.workflows._train import console_for, source_at_hand
from isosphere.workflows._trained import Trained

VIEWS = 4
"""Of each image; from two on there is something to compare."""
RECIPE = {
    "scale": [0.4, 1.0],
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.1, "hue": 0.02, "grey": 0.0},
}
"""Of the views: crops of at least two fifths of the area, mirrored half of the time, in slightly other colours."""
LIMIT = 5000
"""Images that are looked at unless more are asked for: a transformation of some hundred numbers rests on as many."""
FEW = 200
"""Images from which on nothing is said about their number."""

COLOURS = 3
"""Channels that networks of photographs see."""
PIXELS = ("data.channels", "data.white", "data.ground", "data.page", "data.max_pixels")
"""Settings of how pictures are read."""

_BATCH = 32
_BLOCK = 128
"""Images whose features are kept together as soon as they are there."""
_NO_FEATURE = "the network gives no feature of it that has a direction"
_WARM, _TIMED = 2, 8
"""Images that pass through the network before the clock runs, and while it does."""


@keywords_checked
def adapt(
    data: Any,
    out: str | Path | None = None,
    *,
    encoder: str | None = None,
    init: str | Path = "pretrained",
    views: int = VIEWS,
    image_size: int | None = None,
    limit: int | None = LIMIT,
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    device: str | None = None,
    labels: ArrayLike | None = None,
    set: Mapping[str, Any] | None = None,
    progress: bool | Callback = True,
) -> Run:
    """Adapt a network that has seen millions of images to these: ``run = isosphere.adapt("PICTURES", out="runs/a")``.

    The network stays as it is. Some views of each image pass through it once; what they change in its features, a
    neighbour should overlook: a transformation of the features is fitted to that, in seconds (:func:`fit_adaptation`).

    Args:
        data, labels: as of :func:`isosphere.train`; labels are not looked at.
        out: folder of the run.
        encoder: a network of timm; None: the one that the weights tell, else ``tf_efficientnet_lite0``. init:
            ``"pretrained"``, a file of weights, the folder of a run, or ``"hf-hub:OWNER/NAME"``.
        views: of each image, two at the least. image_size: side in pixels; None: the network's own, 224 at the most.
        limit: so many images, drawn by the seed; None: all.
        strict: refuse unreadable images instead of leaving them out.
        overwrite: replace the adapted network in `out`; what was trained is never replaced.
        workers: processes that decode images. device: where to compute; a GPU if torch has one.
        set: how pictures are read, as of :func:`isosphere.train`, e.g. ``{"data.channels": "rgb:4,3,2"}``.
        progress: how long it will take, a bar and the closing sentences on standard error; False: silence; or a
            callback ``(images done, images in all)``.

    Features of views are kept in the user's cache: after an interruption the same call goes on.

    Raises: UsageError for what cannot be adapted to; RunError where weights cannot be had or nothing can be read.
    """
    data = as_name(data)
    made = prepare_adaptation(
        data,
        out,
        encoder=encoder,
        init=init,
        views=views,
        image_size=image_size,
        limit=limit,
        seed=seed,
        strict=strict,
        overwrite=overwrite,
        workers=workers,
        device=device,
        flags=set or {},
        source=None if isinstance(data, (str, Path)) and labels is None else source_at_hand(data, labels),
    )
    console = console_for(progress is True)
    if progress is True and (lasts := made.estimate()):
        console.print(Text(f"Views: {lasts}."), soft_wrap=True)
    with progress_bar("Views", progress) as bar:
        made.look(bar)
    run = made.finish()
    for words, _ in made.closing():
        console.print(Text(printable(words)), soft_wrap=True)
    return run if not made.at_hand else replace(run, images=made.source)


@dataclass
class Adapting:
    """An adaptation that is prepared: :meth:`estimate` says how long it will take, :meth:`look` passes the views
    through the network, :meth:`finish` fits and writes the run.
    """

    values: dict[str, Any]
    """The configuration of the run."""
    folder: RunFolder
    source: Source
    model: Trained
    """The network as it is."""
    at_hand: bool
    strict: bool
    workers: int
    white: White | None = None
    channels: str | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    adaptation: Adaptation | None = None
    _rows: list[tuple[Tensor, dict[str, Tensor]]] = field(default_factory=list, repr=False)
    _failed: dict[int, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        config = parse_config(self.values)
        drawn = build_views(config, self.model.encoder)
        size, least = self.model.size, drawn.recipe.scale[0]
        # The smallest crop then has a pixel for each of the network's.
        self._canvas = math.ceil(size / math.sqrt(least))
        encoder = self.model.encoder
        pixels = Pixels(self._canvas, size, tuple(encoder.mean), tuple(encoder.std), self.source.reading)
        self._digests = torch.from_numpy(digests(self.source, workers=max(1, self.workers)))
        self._look = views_look(self.model.encode, _by_content(drawn, self._digests), seed=config.train.seed)
        self._key = {
            "weights": self.model.weights,
            "kind": f"views, seed {config.train.seed}: {drawn.recipe!r}",
            "device": str(self.model.device.type),
            **pixels.key,
        }
        self._cache = self.model.cache or FeatureCache(self.model.folder.path / "features", limit_bytes=0)
        self._todo = self._cache.missing(self._key, self._digests)

    @property
    def facts(self) -> dict[str, str]:
        """What is worth knowing before it starts, in plain words."""
        encoder, name = self.model.encoder, self.model.encoder.name
        parameters = sum(p.numel() for p in encoder.parameters()) / 1e6
        known = RECOMMENDED.get(name)
        licence = f", {known.licence}" if known and self.values["model"]["init"] == "pretrained" else ""
        views = self.values["views"]["overrides"]["global_views"]
        found = {
            "network": f"{name}, {parameters:.1f} M parameters, {encoder.feature_dim} features, {self.model.size} px",
            "weights": f"{encoder.origin or ''}{licence}",
            "images": f"{len(self.source):,} of {self.source.name}"
            + (f" ({option('limit', 'N')} for more)" if self._limited else ""),
            "views": f"{views} of each: crops of at least {RECIPE['scale'][0]:.0%}, mirrored, colours slightly changed",
        }
        found |= about_pixels(parse_config(self.values), self.source, self.white, self.channels)
        if kept := len(self.source) - len(self._todo):
            found["kept"] = f"features of {plural(kept, 'image')}, from before"
        return {name: said for name, said in found.items() if said}

    @property
    def _limited(self) -> bool:
        return len(self.source) == self.values["data"].get("limit")

    @property
    def done(self) -> int:
        """Images that need not be looked at again."""
        return len(self.source) - len(self._todo)

    def estimate(self) -> str:
        """How long the views will take, in words, by a few of the images, whose features are kept; empty where nothing
        is left to do.
        """
        self._block(_WARM)
        timed, begun = min(_TIMED, len(self._todo)), time.perf_counter()
        self._block(_TIMED)
        left = len(self._todo)
        if not left:
            return ""
        seconds = (time.perf_counter() - begun) / timed * left
        return f"about {duration(seconds)} for {left:,} more images on {self.model.device.type}, measured on {timed}"

    def look(self, progress: Callback) -> None:
        """Pass the views through the network; what is there is kept block by block."""
        while len(self._todo):
            self._block(_BLOCK, progress)

    def finish(self) -> Run:
        """Fit the adaptation and write the run.

        Raises: RunError if too few images can be read, or the run cannot be written.
        """
        features = self._features()
        if features.shape[1] < 2:
            raise RunError(
                f"{self.source.name} has 1 readable image, and views of at least 2 are compared; some hundreds are "
                "better."
            )
        self.adaptation = fit_adaptation(features)
        self._write()
        return load(self.folder.path, device=self.model.device.type)

    def closing(self) -> list[tuple[str, bool]]:
        """Sentences on what was done, each with whether it is a warning."""
        assert self.adaptation is not None
        looked = f"{self.adaptation.views} views of each of {plural(self.adaptation.images, 'image')}"
        said = [
            (
                f"Adapted: neighbours now overlook what {looked} differ in. No label was used, no weight changed.",
                False,
            )
        ]
        if self.skipped:
            listed = f" All are in {self.folder.left_out}." if len(self.skipped) > 3 else ""
            said.append((left_out(self.skipped) + listed, True))
        cautions = (self.white and self.white.caution, set_aside(self.source))
        said += [(caution, True) for caution in cautions if caution]
        if self.adaptation.images < FEW:
            few = plural(self.adaptation.images, "image")
            said.append((f"{few} are few to adapt to: compare with {option('layer', 'backbone')}.", True))
        return said

    def _block(self, count: int, progress: Callback | None = None) -> None:
        block, total = self._todo[:count], len(self.source)
        done = total - len(self._todo)
        if not len(block):
            return

        def seen(number: int) -> None:
            if progress is not None:
                progress(done + number, total)

        found = self._cache.gather(self._key, self._digests[block], lambda rest: self._see(block[rest], seen))
        places = found.pop("positions")
        self._rows.append((block[places], found))
        self._todo = self._todo[count:]

    def _see(self, positions: Tensor, progress: Any = None) -> dict[str, Tensor]:
        return rows_seen(
            self.source,
            positions,
            self._look,
            canvas=self._canvas,
            device=self.model.device,
            failed=self._failed,
            batch_size=_BATCH,
            workers=self.workers,
            strict=self.strict,
            progress=progress,
        )

    def _features(self) -> Tensor:
        """Features of the views of all readable images, ``(V, n, p)``: those that are new, and those of before."""
        new = torch.cat([torch.empty(0, dtype=torch.int64), *(places for places, _ in self._rows)])
        tried = torch.cat([new, torch.tensor(sorted(self._failed), dtype=torch.int64)])
        before = torch.arange(len(self.source))
        before = before[~torch.isin(before, tried)]
        if len(before):
            found = self._cache.gather(
                self._key,
                self._digests[before],
                lambda rest: self._see(before[rest]),
                check=lambda few: _without_positions(self._see(before[few])),
            )
            self._rows.append((before[found.pop("positions")], found))
        rows = [part for part in self._rows if len(part[0])]
        self.skipped = [(self.source.paths[i], why) for i, why in sorted(self._failed.items())]
        self.skipped += [item for item in self.source.unreadable if item not in self.skipped]
        require_readable(self.source, len(rows), self.skipped, strict=self.strict)
        order = torch.cat([places for places, _ in rows]).argsort()
        seen = [torch.stack([view.backbone.cpu() for view in unpacked(found)]) for _, found in rows]
        features, positions = torch.cat(seen, 1)[:, order], torch.cat([places for places, _ in rows])[order]
        length = features.norm(dim=2)
        sound = (length.isfinite() & (length > 0)).all(0)
        self.skipped += [(self.source.paths[i], _NO_FEATURE) for i in positions[~sound].tolist()]
        require_readable(self.source, int(sound.sum()), self.skipped, strict=self.strict)
        return features[:, sound]

    def _write(self) -> None:
        assert self.adaptation is not None
        folder, encoder = self.folder, self.model.encoder
        _require_vacant(folder.path, overwrite=True)  # something may have been put there meanwhile
        make_folder(folder.path)
        with folder.locked():
            folder.write_encoder(encoder.state_dict(), encoder.spec())
            folder.write_adaptation(self.adaptation.state)
            typed = str(self.values["data"]["source"])
            where = "" if self.at_hand else located(typed)
            folder.write_images(typed, where, len(self.source), fingerprint(self.source))
            folder.write_environment()
            if self.skipped:
                folder.write_left_out(self.skipped)
            folder.write_config(self.values)


def prepare_adaptation(
    data: str | Path | Any,
    out: str | Path | None,
    *,
    encoder: str | None = None,
    init: str | Path = "pretrained",
    views: int = VIEWS,
    image_size: int | None = None,
    limit: int | None = LIMIT,
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    device: str | None = None,
    flags: Mapping[str, Any] = {},
    sets: Iterable[str] = (),
    source: Source | None = None,
) -> Adapting:
    """Check what was asked for, open the images and the network; nothing is written to `out`.

    `source`: the images, where they are at hand and not named by `data`. `flags`, `sets`: as of
    :func:`isosphere.training.load_config`, of `PIXELS` alone.
    """
    require_out(out, data, "adapt")
    assert out is not None
    _require_vacant(Path(out), overwrite=overwrite)
    if views < 2:
        raise UsageError(
            f"{option('views')}: got {views}, expected 2 or more: what views differ in is learned from."
        )
    if device is not None:
        require_device(device, "device")
    if data is None and source is None:
        raise UsageError(
            f"no data: name a folder of images, for example: {command('adapt', 'PICTURES', out=out)}"
        )
    network = Network.of(encoder, init)
    values = network.config(image_size)
    typed = None if data is None else str(data)
    values["data"] |= {"source": typed if source is None else source.name}
    values["views"] = {"recipe": "crops", "overrides": {"global_views": views, **RECIPE}}
    values["train"] = {"seed": seed}
    if limit is not None:
        values["data"]["limit"] = limit
    config = load_config(None, sets, flags, values)
    values["data"] |= _pixels_given(config, parse_config(values))
    found = open_training_source(config, settled=False) if source is None else sample(source, limit, seed)
    if len(found) < 2:
        raise UsageError(
            f"{found.name} has {plural(len(found), 'image')}, and views of at least 2 are compared; some hundreds are "
            "better."
        )
    settled, channels = settle_channels(config, found)
    if settled.data.in_chans != COLOURS:
        raise UsageError(
            f"{network.name} sees red, green and blue, and {option('data.channels', settled.data.channels)} gives it "
            f"{plural(settled.data.in_chans, 'channel')}: give three, such as {option('data.channels', 'rgb:1,2,3')}."
        )
    settled, white = settle_white(settled, found)
    values["data"] |= {"channels": settled.data.channels}
    if settled.data.white is not None:
        values["data"]["white"] = settled.data.white
    found = found.read_as(settled.data.reading)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = Trained.as_it_is(network, device=where, image_size=image_size)
    return Adapting(
        values, RunFolder(out), found, model, source is not None, strict, workers, white, channels
    )


def _pixels_given(config: Config, before: Config) -> dict[str, Any]:
    """What was set of how pictures are read. Raises: UsageError for any other setting."""
    changed = [
        key for key, value in flat(config.as_mapping()).items() if flat(before.as_mapping())[key] != value
    ]
    if other := [key for key in changed if key not in PIXELS]:
        raise UsageError(f"adapt has no setting {other[0]}; it takes {', '.join(PIXELS)}.")
    return {key.split(".")[1]: getattr(config.data, key.split(".")[1]) for key in changed}


def _require_vacant(path: Path, *, overwrite: bool) -> None:
    """Raises: UsageError for a folder that holds something else, or a run that is not to be replaced."""
    folder = RunFolder(path)
    if folder.config.is_file() and folder.read_config().get("method", {}).get("name") != FROZEN:
        raise UsageError(
            f"{option('out', path)} holds a run that was trained, which is not replaced: give another {option('out')}."
        )
    kept = ": features of images that were seen are kept, so that it is quick, and only added images are looked at"
    RunFolder.vacant(path, overwrite=overwrite, kept=kept)


def _by_content(views: MakesViews, contents: Tensor) -> MakesViews:
    """The same random views, drawn by what an image holds, not by its place: added images leave those of others as they
    are.
    """
    positions = torch.arange(len(contents))
    numbers = torch.where(contents.any(1), contents[:, 0] & 0xFFFFFFFF, positions)

    def draw(images: Tensor | Pictures, *, index: Tensor, epoch: int, seed: int) -> Sequence[Tensor]:
        return views(images, index=numbers[index.cpu()], epoch=epoch, seed=seed)

    return draw


def _without_positions(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in rows.items() if name != "positions"}
