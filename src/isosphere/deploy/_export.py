"""The encoder in files that other programs load, each checked against the encoder before it is handed over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from isosphere.atomic import make_folder, require_free, write_bytes, write_json, write_text
from isosphere.deploy._checked import Exported, accept, difference, noise, plain, words
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._hub import write_hub
from isosphere.deploy._layers import Layer
from isosphere.deploy._onnx import FromPixels, require_onnx, to_onnx
from isosphere.deploy._snippets import onnx_snippet, safetensors_snippet, sample, timm_snippet
from isosphere.deploy._timm_card import require_timm, timm_card
from isosphere.errors import UsageError, nearest, option
from isosphere.models import Encoder
from isosphere.runs import RunFolder


def export(
    run: Embedder,
    format: str,
    out: str | Path | None = None,
    *,
    layer: Layer | str | None = None,
    opset: int | None = None,
    dynamic_size: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the encoder of a run in another form, and check it against the encoder on random images.

    Args:
        format: ``timm``: weights under timm's names, for timm's architectures; ``safetensors``: weights and a
            description that isosphere rebuilds any of its encoders from; ``onnx``: one file with the network,
            the normalisation of pixels included (needs onnx, onnxscript and onnxruntime); ``hub``: a folder in timm's
            layout for the Hugging Face Hub, with a model card to be edited, which is never replaced.
        out: of the file, or the folder; ``RUN/export/encoder-FORMAT`` if None.
        layer: ``wccn`` adds the normalisation (:class:`isosphere.evaluation.WCCN`), ``head`` the projection head,
            ``adapted`` the adaptation to the images (onnx only); None: the first that the run and the format have.
        opset: version of ONNX's operators, torch's choice if None (onnx only).
        dynamic_size: height and width of the images are free, as their number always is (onnx only).
        overwrite: replace `out`, and the files beside it, where they exist; of a run's own files none is.

    The file is written when it has been checked, and holds no path of this machine. Beside it lies a file of Python
    that reads pictures for it, as the run does, by numpy and Pillow alone.

    Raises: UsageError for another format, a layer or option that a format cannot hold, an encoder that timm does not
        have or that takes images of one size, a file that exists without `overwrite`, or a missing package; RunError if
        the file would compute something else than the encoder, cannot be converted or written.
    """
    if format not in FORMATS:
        raise UsageError(
            f"{option('format')}: there is no '{format}'.{nearest(format, FORMATS)} Known: {', '.join(FORMATS)}."
        )
    layer = run.check_layer("backbone" if layer is None and format != "onnx" else layer)
    if format == "hub" and not run.has_head:
        raise UsageError(
            f"the format hub is for networks that were trained here, and {run.encoder.name} is as it was given: give "
            f"{option('format', 'onnx')}"
            + (", which holds what it is adapted by too." if run.adaptation is not None else ".")
        )
    if layer != "backbone" and format != "onnx":
        raise UsageError(
            f"the format {format} holds the backbone alone: give {option('format', 'onnx')}, or leave "
            f"{option('layer')} out."
        )
    for name, given in (("opset", opset), ("dynamic_size", dynamic_size or None)):
        if given is not None and format != "onnx":
            raise UsageError(
                f"{option(name, given)} belongs to the format onnx: give {option('format', 'onnx')}."
            )
    if format == "hub":
        with torch.random.fork_rng([]):
            return write_hub(run, out, overwrite=overwrite)
    ending = ".onnx" if format == "onnx" else ".safetensors"
    name = f"encoder-{format}" + ("" if run.role == "student" else f"-{run.role}")
    path = run.folder.path / "export" / f"{name}{ending}" if out is None else Path(out)
    if path.suffix != ending:
        raise UsageError(
            f"{option('out', path)}: expected a name that ends in {ending}, as {path.with_suffix(ending)}."
        )
    for file in [path, _reader(path), *([] if format == "onnx" else [_card(path)])]:
        RunFolder.refuse_own(file)
        require_free(file, overwrite=overwrite or out is None)
    make_folder(path.parent)
    writer = {"timm": _timm, "safetensors": _safetensors}.get(format)
    with torch.random.fork_rng([]):  # networks that are built to be compared draw their first weights
        made = writer(run, path) if writer else _onnx(run, path, layer, opset, dynamic_size)
    if run.adaptation is None or layer == "adapted":
        return made
    return replace(made, lacks=f"the backbone alone; the adaptation is in {option('format', 'onnx')}")


def _card(path: Path) -> Path:
    """The description beside a file of weights."""
    return path.with_suffix(".json")


def _reader(path: Path) -> Path:
    """What reads pictures for an exported file."""
    return path.with_suffix(".py")


FORMATS: dict[str, str] = {
    "timm": "weights for timm.create_model",
    "safetensors": "weights and a description for isosphere.models",
    "onnx": "one file for ONNX Runtime and others",
    "hub": "a folder for the Hugging Face Hub, in timm's layout",
}
"""Formats with a line on each."""


def _timm(run: Embedder, path: Path) -> Exported:
    import timm

    encoder = run.encoder
    require_timm(encoder)
    options: dict[str, Any] = {
        **{"num_classes": 0, "in_chans": encoder.in_chans},
        **encoder.arguments.given(),
    }
    stem = getattr(encoder.backbone, "conv1", None) if encoder.stem == "small" else None
    content = save(plain(encoder.backbone), metadata={"format": "pt", "architecture": encoder.name})
    model = timm.create_model(encoder.name, **options)
    if stem is not None:
        model.conv1 = nn.Conv2d(encoder.in_chans, stem.out_channels, 3, 1, 1, bias=False)  # type: ignore[assignment]
        model.maxpool = nn.Identity()  # type: ignore[assignment]
    model.load_state_dict(load(content))
    error = difference(encoder, model.to(run.device).eval(), run)
    accept(error)
    write_bytes(path, content)
    card = {**timm_card(run), "model_args": options, "small_stem": stem is not None}
    write_json(_card(path), card)
    script = _script(run, path)
    snippet = timm_snippet(
        path,
        script,
        sample(run.reading.channels),
        encoder,
        options,
        None if stem is None else stem.out_channels,
    )
    return Exported((path, _card(path), script), snippet, words(error, "timm"))


def _script(run: Embedder, path: Path, *, normalised: bool = True) -> Path:
    """Write beside an exported file what reads pictures for it."""
    script = _reader(path)
    write_text(script, run.pixels.script(normalised=normalised))
    return script


def _safetensors(run: Embedder, path: Path) -> Exported:
    known = run.folder.read_spec() if run.folder.encoder_spec.exists() else {}
    spec = {**known, **run.encoder.spec(), "weights": run.role}  # an older run's tells no stem
    content = save(plain(run.encoder), metadata={"format": "pt", "architecture": run.encoder.name})
    rebuilt = Encoder.from_spec(spec)
    rebuilt.load_state_dict(load(content))
    error = difference(run.encoder, rebuilt.to(run.device).eval(), run)
    accept(error)
    write_bytes(path, content)
    write_json(_card(path), spec)
    script = _script(run, path)
    snippet = safetensors_snippet(path, script, sample(run.reading.channels))
    return Exported((path, _card(path), script), snippet, words(error, "isosphere.models"))


def _onnx(run: Embedder, path: Path, layer: Layer, opset: int | None, dynamic_size: bool) -> Exported:
    require_onnx()
    module = FromPixels(run, layer).cpu().eval()
    try:
        if dynamic_size:
            _require_any_size(module, run, noise((2, run.encoder.in_chans, 2 * run.size, run.size)))
        content, error = to_onnx(module, run, ["features"], opset=opset, dynamic_size=dynamic_size)
        write_bytes(path, content)
    finally:
        module.to(run.device)
    script = _script(run, path, normalised=False)
    return Exported(
        (path, script), onnx_snippet(path, script, sample(run.reading.channels)), words(error, "ONNX Runtime")
    )


def _require_any_size(module: nn.Module, run: Embedder, x: Tensor) -> None:
    try:
        with torch.no_grad():
            module(x)
    except Exception as error:  # each architecture has its own way to refuse
        raise UsageError(
            f"{run.encoder.name} takes images of {run.size} px alone: leave {option('dynamic_size', True)} out."
        ) from error
