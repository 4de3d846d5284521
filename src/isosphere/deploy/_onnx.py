"""Networks as ONNX: from channels in [0, 1] to layers, each checked against the network that it was written from."""

import importlib
import logging
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from isosphere.deploy._checked import accept, compare, noise
from isosphere.deploy._embedder import Embedder
from isosphere.deploy._layers import Layer
from isosphere.errors import RunError, UsageError, option


class FromPixels(nn.Module):
    """From channels in [0, 1] to layers of a run, so that a user of the file cannot normalise wrongly; the first one
    with rows of length 1 where `unit` is asked for. A single layer is a tensor, several a tuple.
    """

    def __init__(self, run: Embedder, *layers: Layer, unit: bool = False) -> None:
        super().__init__()
        self.network, self.layers, self.encode, self.unit = run.encoder, layers, run.encode, unit
        owner = getattr(run.encode, "__self__", None)
        # The head's weights have to be seen as this module's own.
        self.owner = owner if "head" in layers and isinstance(owner, nn.Module) else None
        for name, values in (("mean", run.encoder.mean), ("std", run.encoder.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self.adaptation = run.adaptation
        for layer, held in (("wccn", run.metric), ("adapted", run.adaptation)):
            if held is not None and layer in layers:
                self.register_buffer(f"{layer}_mean", held.mean.clone(), persistent=False)
                self.register_buffer(f"{layer}_basis", held.basis.clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = (images - self.get_buffer("mean")) / self.get_buffer("std")
        features, head = self.encode(x) if "head" in self.layers else (self.network(x), x)
        made = [head if layer == "head" else self._layer(features, layer) for layer in self.layers]
        if self.unit:
            made[0] = nn.functional.normalize(made[0], dim=1)
        return made[0] if len(made) == 1 else tuple(made)

    def _layer(self, features: Tensor, layer: Layer) -> Tensor:
        if layer == "wccn":
            return (features - self.get_buffer("wccn_mean")) @ self.get_buffer("wccn_basis")
        if layer == "adapted" and self.adaptation is not None:
            mean, basis = (self.get_buffer(f"adapted_{name}") for name in ("mean", "basis"))
            return replace(self.adaptation, mean=mean, basis=basis).applied(features)
        return features


def require_onnx() -> Any:
    """ONNX Runtime. Raises: UsageError where what writes or reads ONNX is not installed."""
    try:
        return [importlib.import_module(name) for name in ("onnx", "onnxscript", "onnxruntime")][-1]
    except ImportError as error:
        raise UsageError(
            f"ONNX needs {error.name}, which is not installed. Type: pip install onnx onnxscript onnxruntime"
        ) from error


def to_onnx(
    module: nn.Module,
    run: Embedder,
    outputs: list[str],
    *,
    opset: int | None = None,
    dynamic_size: bool = False,
) -> tuple[bytes, float]:
    """A module on the CPU, from ``images`` to outputs of these names, as a file of ONNX, and the largest relative
    difference to it on random images.

    Raises: UsageError for an opset that torch does not write; RunError where it cannot be converted, or the file would
        compute something else.
    """
    onnxruntime = require_onnx()
    shapes = [(n, run.encoder.in_chans, run.size, run.size) for n in (1, 5)]
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        shapes.append((2, run.encoder.in_chans, 2 * run.size, run.size))
        free |= {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (noise((2, *shapes[0][1:])),),
                dynamo=True,
                opset_version=opset,
                input_names=["images"],
                output_names=outputs,
                dynamic_shapes={"images": free},
                verbose=False,
            )
        assert program is not None
        content = _without_places(program.model_proto)
        made = next(each.version for each in program.model_proto.opset_import if not each.domain)
        if opset not in (None, made):  # the exporter says nothing where it cannot convert
            raise UsageError(f"{option('opset', opset)}: torch writes opset {made} instead: leave it out.")
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

        def ours(x: Tensor, i: int) -> Tensor:
            found = module(x)
            return found if isinstance(found, Tensor) else found[i]

        def theirs(x: Tensor, i: int) -> Tensor:
            return torch.from_numpy(session.run(outputs, {"images": x.numpy()})[i])

        error = max(
            compare(lambda x, i=i: ours(x, i), lambda x, i=i: theirs(x, i), noise(shape))
            for i in range(len(outputs))
            for shape in shapes
        )
        accept(error)
    except (UsageError, RunError):
        raise
    except Exception as error:  # exporters raise nearly anything
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RunError(f"{run.encoder.name} could not be written as ONNX: {first}") from error
    return content, error


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


class _quiet:  # noqa: N801  (used as a function)
    """The exporter's remarks about itself are not for the person who asked for a file."""

    def __enter__(self) -> None:
        self._filters = warnings.catch_warnings(action="ignore")
        self._filters.__enter__()
        logging.disable(logging.WARNING)

    def __exit__(self, *failure: object) -> None:
        logging.disable(logging.NOTSET)
        self._filters.__exit__(None, None, None)
