"""A folder with an encoder and all that belongs to it, which runs where isosphere is not installed."""

import io
import json
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.atomic import make_folder, write_bytes, write_json, write_text
from isosphere.data import (
    PIXELS,
    WHOLE,
    Source,
    UnreadableImageError,
    is_image_file,
    picture_reader,
    visible,
)
from isosphere.deploy import _runtime
from isosphere.deploy._embed import embed_images
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._index import Index
from isosphere.deploy._layers import Layer
from isosphere.deploy._model_card import licence
from isosphere.deploy._onnx import FromPixels, require_onnx, to_onnx
from isosphere.deploy._runtime import ABOUT, FORMAT, Bundle, BundleError, digest_of, unit, version_of
from isosphere.errors import RunError, UsageError, option, plural
from isosphere.evaluation import Probe

REFERENCES = 10
"""Images that are brought along with their vectors."""
SCRIPT = "bundle.py"
_IMPORT = "from isosphere.data import pixels\n"


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written: its folder, version, images and bytes, and what its check has found."""

    folder: Path
    version: str
    images: int
    size: int
    check: dict[str, float]
    remarks: tuple[str, ...] = ()


def check_bundle(out: str | Path, *, overwrite: bool = False) -> Path:
    """The folder, if a bundle may be written there. Raises: UsageError for one that holds something else."""
    folder = Path(out)
    require_onnx()
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{option('out', out)} is no folder: give another name.")
    if there and ABOUT not in there:
        raise UsageError(
            f"{option('out', out)} is occupied, and not by a bundle (it holds {', '.join(there[:3])}): give another."
        )
    if there and not overwrite:
        raise UsageError(
            f"{option('out', out)} holds a bundle: add {option('overwrite', True)} to replace it, or give another."
        )
    return folder


def write_bundle(
    run: Embedder,
    out: str | Path,
    source: Source,
    index: Index,
    *,
    probe: tuple[Probe, Layer] | None = None,
    copies: tuple[Index, float] | None = None,
    overwrite: bool = False,
) -> Bundled:
    """Write the folder: complete, or not at all.

    The network as ONNX, from pixels in [0, 1] to unit rows of the index's layer, and where there is a classifier to the
    features that it takes; the index, its names, the threshold for copies; ten images of the source, drawn by a fixed
    seed, with their vectors by `run`; ``bundle.py``, which uses all of it by numpy, Pillow and onnxruntime; and
    ``bundle.json``, which has a digest of each file and is written last.

    Args:
        run: settled for the source. source: where the images of the index are. index: of whole pictures.
        probe: a classifier, and the layer that it takes.
        copies: of the same images by the layer that tells copies, and the cosine from which two images are copies.

    Raises: UsageError for a folder that is taken, or a missing package; RunError where the folder does not reproduce
        the vectors of the run.
    """
    folder = check_bundle(out, overwrite=overwrite)
    make_folder(folder.absolute().parent)
    _remove_abandoned(folder)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        about, remarks = _write(run, part, source, index, probe, copies)
        write_json(part / ABOUT, about)
        try:
            made = Bundle(part)
            check = made.check() if about["references"] else {}
        except BundleError as error:
            raise RunError(
                f"the bundle does not do what the run does, and was not written: {error}"
            ) from error
        size = sum(each["bytes"] for each in about["files"].values())
        _replace(part, folder)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}. Nothing was changed.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Bundled(folder, about["version"], len(index), size, check, tuple(remarks))


def _write(
    run: Embedder,
    folder: Path,
    source: Source,
    index: Index,
    probe: tuple[Probe, Layer] | None,
    copies: tuple[Index, float] | None,
) -> tuple[dict[str, Any], list[str]]:
    """All files but the last, and what that says."""
    other = copies[0] if copies is not None and copies[0].layer != index.layer else None
    outputs: dict[str, Layer] = {"embeddings": index.layer}
    if probe is not None:
        outputs["features"] = probe[1]
    if other is not None:
        outputs["copies"] = other.layer
    module = FromPixels(run, *outputs.values(), unit=True).cpu().eval()
    try:
        content, _ = to_onnx(module, run, [*outputs])
    finally:
        module.to(run.device)
    write_bytes(folder / "encoder.onnx", content)
    _save(folder / "vectors.npy", index.unit.numpy())
    if other is not None:
        if other.paths != index.paths:
            raise RunError("images changed while they were bundled: type the same again.")
        _save(folder / "copies.npy", other.unit.numpy())
    network = run.identity
    images = {
        "network": network,
        "paths": index.paths,
        "labels": index.labels.tolist(),
        "class_names": index.class_names,
    }
    _json(folder / "images.json", images)
    classes: list[str] = []
    if probe is not None:
        classes = list(probe[0].class_names)
        parts = {"weight": probe[0].weight.numpy(), "bias": probe[0].bias.numpy()}
        _arrays(folder / "classifier.npz", {**parts, "network": np.asarray(network)})
    references, remarks = _references(run, folder, source, index, other)
    write_text(folder / SCRIPT, runtime_source())
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": "",
        "network": network,
        "isosphere": version("isosphere"),
        "encoder": run.encoder.name,
        "layer": index.layer,
        "dim": index.unit.shape[1],
        "pixels": PIXELS,
        "channels": run.encoder.in_chans,
        "size": run.size,
        "preprocessing": {
            "centre": run.pixels.arguments,
            "whole": run.fitted(WHOLE).pixels.arguments,
        },
        "images": len(index),
        "threshold": None if copies is None else copies[1],
        "copies": index.layer if other is None else other.layer,
        "classes": classes,
        "references": references,
        "licence": licence(run),
    }
    write_text(folder / "README.md", card(about))
    write_text(folder / "LICENCE.md", "\n\n".join(["# Licence of the weights", *about["licence"]]) + "\n")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    about["files"] = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": digest_of(p)} for p in files
    }
    about["version"] = version_of(about["files"])
    return about, remarks


def runtime_source() -> str:
    """The file that uses a bundle: the reader of pictures, then what is asked of it."""
    own = Path(_runtime.__file__).read_text(encoding="utf-8")
    assert own.count(_IMPORT) == 1
    return f"{picture_reader()}\n\n{own.replace(_IMPORT, '')}"


def _references(
    run: Embedder, folder: Path, source: Source, index: Index, other: Index | None
) -> tuple[list[str], list[str]]:
    """Write some images and their vectors; their names, and what there is to say."""
    assert index.positions is not None
    order = np.random.default_rng(0).permutation(index.positions)
    target, names = make_folder(folder / "references"), list[str]()
    for i in order.tolist():
        if len(names) == REFERENCES:
            break
        if (kept := _picture(source, i)) is not None:
            names.append(f"{len(names):02d}{kept[0]}")
            write_bytes(target / names[-1], kept[1])
    if not names:
        return [], [
            "no image could be brought along as a file, so that the bundle cannot be checked elsewhere."
        ]
    files = [target / name for name in names]
    whole = run.fitted(WHOLE)
    looks = {"centre": (run, index.layer), "whole": (whole, index.layer)}
    if other is not None:
        looks["copies"] = whole, other.layer
    rows = {name: unit(embed_images(looking, files, layer=layer)) for name, (looking, layer) in looks.items()}
    _arrays(folder / "references.npz", rows)
    return names, []


def _picture(source: Source, i: int) -> tuple[str, bytes] | None:
    """The ending and bytes of an image: of its own file, else its pixels as PNG; None where they cannot be had."""
    origin = source.origin(i)
    if origin is not None and origin.is_file and is_image_file(Path(origin.file)):
        with suppress(OSError):
            return Path(origin.file).suffix.lower(), Path(origin.file).read_bytes()
    if source.reading.channels is not None and source.reading.channels.bands:
        return None
    with suppress(UnreadableImageError):
        stream = io.BytesIO()
        visible(source.image(i)).save(stream, "PNG")
        return ".png", stream.getvalue()
    return None


def card(about: dict[str, Any]) -> str:
    """What a person is told of a bundle, in Markdown."""
    holds = [
        f"- `encoder.onnx`: {about['encoder']}, from {about['channels']} channels of {about['size']} px in [0, 1] to "
        f"`embeddings`, {about['dim']} numbers, unit rows ({about['layer']}); pixels are normalised within",
        f"- `vectors.npy`, `images.json`: {plural(about['images'], 'image')} to search",
        f"- `references/`: {plural(len(about['references']), 'image')} with their vectors; they are pictures of the "
        "collection: look at them before you hand the folder on",
        "- `bundle.py`: reads pictures, embeds, searches; needs numpy, Pillow and onnxruntime",
    ]
    if about["classes"]:
        holds.append(f"- `classifier.npz`: {', '.join(about['classes'])}")
    if about["threshold"] is not None:
        by = "" if about["copies"] == about["layer"] else f" of the layer {about['copies']} (`copies.npy`)"
        holds.append(f"- two images are copies from a cosine{by} of {about['threshold']:.4f} on")
    return "\n".join(
        [
            f"# {about['encoder']}, {about['layer']}",
            "",
            *holds,
            "",
            "```",
            "python bundle.py --check        # reproduces the reference vectors, and says how long a picture takes",
            "python bundle.py PICTURE        # the images most like it",
            "isosphere serve .               # answers over HTTP, by isosphere, starlette and uvicorn",
            "```",
            "",
            "```python",
            "from bundle import Bundle",
            "",
            'bundle = Bundle(".")',
            'vectors = bundle.embed(["picture.jpg"])',
            'matches = bundle.search("picture.jpg", k=5)',
            "```",
            "",
            f"Network {about['network']}. Vectors of another one cannot be compared with these. Pictures are embedded "
            "and classified by their centre, searched by all of them, as isosphere does.",
            "",
            "## Licence",
            *about["licence"],
            "",
        ]
    )


def _save(file: Path, rows: Any) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(rows, np.float32), allow_pickle=False)
    write_bytes(file, stream.getvalue())


def _arrays(file: Path, arrays: dict[str, Any]) -> None:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_bytes(file, stream.getvalue())


def _json(file: Path, content: Any) -> None:
    write_text(file, json.dumps(content, ensure_ascii=True))


def _replace(part: Path, folder: Path) -> None:
    """Put a finished folder in the place of another, which is there until then."""
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    there = folder.exists()
    if there:
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if there:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """What a kill has left behind."""
    for each in folder.absolute().parent.glob(f".{folder.name}.*.part"):
        if (
            re.fullmatch(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.part", each.name)
            and not each.is_symlink()
        ):
            shutil.rmtree(each, ignore_errors=True)
