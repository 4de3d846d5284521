"""The encoder in files that other programs load, each checked against the encoder before it is handed over."""

import importlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from isosphere.atomic import make_folder, require_free, write_bytes, write_json, write_text
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._layers import Layer
from isosphere.deploy._snippets import onnx_snippet, safetensors_snippet, timm_snippet
from isosphere.errors import RunError, UsageError, nearest, option
from isosphere.models import Encoder, SmallConv
from isosphere.runs import RunFolder

TOLERANCE = 1e-4
"""Largest difference to the encoder that a file may show, relative to the largest feature (at least 1)."""


@dataclass(frozen=True)
class Exported:
    """Files that were written, lines of Python that use them, and what was checked."""

    files: tuple[Path, ...]
    snippet: str
    check: str


def export(
    run: Embedder,
    format: str,
    out: str | Path | None = None,
    *,
    layer: Layer | str = "backbone",
    opset: int | None = None,
    dynamic_size: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the encoder of a run in another form, and check it against the encoder on random images.

    Args:
        format: ``timm``: weights under timm's names, for timm's architectures; ``safetensors``: weights and a
            description that isosphere rebuilds any of its encoders from; ``onnx``: one file with the network,
            the normalisation of pixels included (needs onnx, onnxscript and onnxruntime).
        out: of the file; ``RUN/export/encoder-FORMAT`` if None.
        layer: ``wccn`` adds the normalisation (:class:`isosphere.evaluation.WCCN`), ``head`` the projection head (onnx
            only).
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
    layer = run.check_layer(layer)
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
    ending = ".onnx" if format == "onnx" else ".safetensors"
    path = run.folder.path / "export" / f"encoder-{format}{ending}" if out is None else Path(out)
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
        return writer(run, path) if writer else _onnx(run, path, layer, opset, dynamic_size)


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
}
"""Formats with a line on each."""


def _timm(run: Embedder, path: Path) -> Exported:
    encoder = run.encoder
    if isinstance(encoder.backbone, SmallConv):
        raise UsageError(
            f"{encoder.name} is isosphere's own, and timm has no such network: give {option('format', 'safetensors')} "
            f"or {option('format', 'onnx')}, or train with a timm encoder ({option('encoder', 'resnet18')})."
        )
    options: dict[str, Any] = {
        **{"num_classes": 0, "in_chans": encoder.in_chans},
        **encoder.arguments.given(),
    }
    stem = getattr(encoder.backbone, "conv1", None) if encoder.stem == "small" else None
    content = save(_plain(encoder.backbone), metadata={"format": "pt", "architecture": encoder.name})
    model = timm.create_model(encoder.name, **options)
    if stem is not None:
        model.conv1 = nn.Conv2d(encoder.in_chans, stem.out_channels, 3, 1, 1, bias=False)  # type: ignore[assignment]
        model.maxpool = nn.Identity()  # type: ignore[assignment]
    model.load_state_dict(load(content))
    error = _difference(encoder, model.to(run.device).eval(), run)
    _accept(error)
    write_bytes(path, content)
    card = {
        "architecture": encoder.name,
        "num_features": encoder.feature_dim,
        **_pooling(encoder.backbone),
        "model_args": options,
        "small_stem": stem is not None,
        "pretrained_cfg": {
            "input_size": [encoder.in_chans, run.size, run.size],
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "interpolation": encoder.interpolation,
            "crop_pct": encoder.crop_pct or 1.0,
            "crop_mode": encoder.crop_mode or "center",
            "num_classes": 0,
        },
    }
    write_json(_card(path), card)
    script = _script(run, path)
    snippet = timm_snippet(path, script, encoder, options, None if stem is None else stem.out_channels)
    return Exported((path, _card(path), script), snippet, _words(error, "timm"))


def _pooling(backbone: nn.Module) -> dict[str, str]:
    """How the network pools, where its constructor calls it so."""
    pool = getattr(backbone, "global_pool", None)
    found = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
    return {"global_pool": found} if isinstance(found, str) and found else {}


def _script(run: Embedder, path: Path, *, normalised: bool = True) -> Path:
    """Write beside an exported file what reads pictures for it."""
    script = _reader(path)
    write_text(script, run.pixels.script(normalised=normalised))
    return script


def _safetensors(run: Embedder, path: Path) -> Exported:
    spec = {**run.folder.read_spec(), **run.encoder.spec()}  # an older run's tells no stem
    content = save(_plain(run.encoder), metadata={"format": "pt", "architecture": run.encoder.name})
    rebuilt = Encoder.from_spec(spec)
    rebuilt.load_state_dict(load(content))
    error = _difference(run.encoder, rebuilt.to(run.device).eval(), run)
    _accept(error)
    write_bytes(path, content)
    write_json(_card(path), spec)
    script = _script(run, path)
    snippet = safetensors_snippet(path, script)
    return Exported((path, _card(path), script), snippet, _words(error, "isosphere.models"))


class _FromPixels(nn.Module):
    """From RGB in [0, 1] to features, so that a user of the file cannot normalise wrongly."""

    def __init__(self, run: Embedder, layer: Layer) -> None:
        super().__init__()
        self.network, self.layer, self.encode = run.encoder, layer, run.encode
        owner = getattr(run.encode, "__self__", None)
        # The head's weights have to be seen as this module's own.
        self.owner = owner if layer == "head" and isinstance(owner, nn.Module) else None
        for name, values in (("mean", run.encoder.mean), ("std", run.encoder.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        if layer == "wccn" and run.metric is not None:
            self.register_buffer("centre", run.metric.mean.clone(), persistent=False)
            self.register_buffer("basis", run.metric.basis.clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = (images - self.get_buffer("mean")) / self.get_buffer("std")
        if self.layer == "head":
            return self.encode(x)[1]
        features = self.network(x)
        if self.layer == "wccn":
            features = (features - self.get_buffer("centre")) @ self.get_buffer("basis")
        return features


def _onnx(run: Embedder, path: Path, layer: Layer, opset: int | None, dynamic_size: bool) -> Exported:
    try:
        onnxruntime = [importlib.import_module(name) for name in ("onnx", "onnxscript", "onnxruntime")][-1]
    except ImportError as error:
        raise UsageError(
            f"ONNX needs {error.name}, which is not installed. Type: pip install onnx onnxscript onnxruntime"
        ) from error
    module = _FromPixels(run, layer).cpu().eval()
    shapes = [(n, run.encoder.in_chans, run.size, run.size) for n in (1, 5)]
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        shapes.append((2, run.encoder.in_chans, 2 * run.size, run.size))
        free |= {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
        _require_any_size(module, run, _noise(shapes[-1]))
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (_noise((2, *shapes[0][1:])),),
                dynamo=True,
                opset_version=opset,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes={"images": free},
                verbose=False,
            )
        assert program is not None
        content = _without_places(program.model_proto)
        made = next(each.version for each in program.model_proto.opset_import if not each.domain)
        if opset not in (None, made):  # the exporter says nothing where it cannot convert
            raise UsageError(f"{option('opset', opset)}: torch writes opset {made} instead: leave it out.")
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

        def other(x: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {"images": x.numpy()})[0])

        error = max(_compare(module, other, x) for x in map(_noise, shapes))
        _accept(error)
        write_bytes(path, content)
    except (UsageError, RunError):
        raise
    except Exception as error:  # exporters raise nearly anything
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RunError(f"{run.encoder.name} could not be written as ONNX: {first}") from error
    finally:
        module.to(run.device)
    script = _script(run, path, normalised=False)
    return Exported((path, script), onnx_snippet(path, script), _words(error, "ONNX Runtime"))


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def _noise(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(shape[0]))


def _difference(ours: nn.Module, theirs: nn.Module, run: Embedder) -> float:
    x = _noise((4, run.encoder.in_chans, run.size, run.size))
    return _compare(ours.eval(), theirs, x.to(run.device))


def _require_any_size(module: nn.Module, run: Embedder, x: Tensor) -> None:
    try:
        with torch.no_grad():
            module(x)
    except Exception as error:  # each architecture has its own way to refuse
        raise UsageError(
            f"{run.encoder.name} takes images of {run.size} px alone: leave {option('dynamic_size', True)} out."
        ) from error


def _without_places(model: Any) -> bytes:
    """An ONNX model without what the exporter notes of each node: lines of source files, by their paths here."""
    waiting = [model]
    for message in waiting:
        for kind, value in message.ListFields():
            if kind.name in ("metadata_props", "doc_string"):
                message.ClearField(kind.name)
            elif kind.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else value
    return model.SerializeToString()


def _compare(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    with torch.no_grad():
        expected, got = ours(x).float().cpu(), theirs(x).float().cpu()
    if got.shape != expected.shape:
        raise RunError(f"the exported file gives shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _accept(error: float) -> None:
    if not error <= TOLERANCE:
        raise RunError(
            f"the exported file differs from the encoder by {error:.1e}, and at most {TOLERANCE:.0e} is accepted: "
            "nothing was written. Please report this with the name of the encoder."
        )


def _words(error: float, reader: str) -> str:
    return f"read back by {reader}: largest relative difference {error:.1e}"


class _quiet:  # noqa: N801  (used as a function)
    """The exporter's remarks about itself are not for the person who asked for a file."""

    def __enter__(self) -> None:
        self._filters = warnings.catch_warnings(action="ignore")
        self._filters.__enter__()
        logging.disable(logging.WARNING)

    def __exit__(self, *failure: object) -> None:
        logging.disable(logging.NOTSET)
        self._filters.__exit__(None, None, None)
