"""The folder of a run: where each file is, how it is written, and what is refused."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import yaml

from isosphere.atomic import locked, make_folder, write_bytes, write_json, write_text
from isosphere.errors import RunError, UsageError, command, option, printable
from isosphere.reading import UnreadableError, read_json, read_text, read_yaml
from isosphere.runs._environment import environment
from isosphere.runs._metrics import MetricsFile
from isosphere.runs._tensors import pack_tensors, read_tensors

_SPEC_BYTES = 2**20
ENCODER_FORMAT = "isosphere-encoder-1"
EVALUATION_FORMAT = "isosphere-evaluation-1"
_STEP = "step"
_TARGETS = "targets"
_WITHIN = ("checkpoints", "features", "search", "export")
_PATIENCE = 60.0  # seconds; the figures are written in milliseconds


class RunFolder:
    """Paths and files of one run.

    ``config.yaml``, ``environment.json``, ``images.json``, ``metrics.csv``, ``checkpoints/last.ckpt`` (and
    ``epoch-N.safetensors`` where weights are kept; ``start.safetensors`` and ``chosen.json`` of a training that began
    with given ones), ``encoder.safetensors`` with ``encoder.json``,
    ``method.safetensors``, ``wccn.safetensors`` (of a network that was adapted ``adaptation.safetensors`` instead),
    ``evaluation.json`` and ``train.log``; every one but the log and the
    metrics, which only grow, is replaced atomically.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.images = self.path / "images.json"
        self.metrics = self.path / "metrics.csv"
        self.checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.start = self.path / "checkpoints" / "start.safetensors"
        self.encoder = self.path / "encoder.safetensors"
        self.encoder_spec = self.path / "encoder.json"
        self.method = self.path / "method.safetensors"
        self.wccn = self.path / "wccn.safetensors"
        self.older_wccn = self.path / "view_metric.safetensors"
        self.adaptation = self.path / "adaptation.safetensors"
        self.targets = self.path / "checkpoints" / "targets.safetensors"
        self.evaluation = self.path / "evaluation.json"
        self.collection = self.path / "collection.safetensors"
        self.version = self.path / "version.json"
        self.chosen = self.path / "chosen.json"
        self.log = self.path / "train.log"
        self.left_out = self.path / "left_out.txt"
        self.lock = self.path / ".lock"
        self.remote = self.path / "remote_id"

    def _refuse_strangers(self) -> None:
        """Raises: UsageError if a folder within the run is a link: what is written and removed there would be
        another's; or if a folder or a pipe is where a file should be.
        """
        for name in _WITHIN:
            found = self.path / name
            if found.is_symlink():
                raise UsageError(
                    f"{found} is a link, and the folders within a run must be its own, since files are removed there: "
                    f"put the folder itself in its place, or remove the link."
                )
        for file in self._files:
            if file.exists() and not file.is_file():
                raise UsageError(
                    f"{file} is no regular file (a folder, a pipe), and the run has a file of this name: move it away."
                )

    @property
    def _files(self) -> tuple[Path, ...]:
        """All that a run writes under a fixed name."""
        found = (value for name, value in vars(self).items() if name != "path")
        return tuple(found)

    @classmethod
    def refuse_own(cls, path: Path) -> None:
        """Raises: UsageError if `path` is one of the files that a run consists of, in whichever folder."""
        whole = path.resolve()
        for folder in (cls(whole.parent), cls(whole.parent.parent)):
            kept = whole.parent == folder.checkpoint.parent
            if folder.config.exists() and (kept or whole in folder._files):
                raise UsageError(
                    f"{path} belongs to the run in {folder.path}, which needs it: give another {option('out')}."
                )

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # --- opening and creating -------------------------------------------------------------------------------

    @classmethod
    def vacant(
        cls, path: str | Path, *, resume: bool = False, overwrite: bool | None = None, kept: str = ""
    ) -> "RunFolder":
        """Check that a run may be written to `path`, and touch nothing.

        `resume`, or `overwrite` where that is what can be done with one, asks for the run that is there; `kept` says
        what of it is kept then.

        Raises: UsageError if the folder holds something else, or a run that was not asked for, or if there is no right
        to write there; RunError if it is being trained.
        """
        folder, typed, other = cls(path), option("out", path), option("out")
        if os.fsencode(folder.path.absolute()).decode("utf-8", "ignore") != str(folder.path.absolute()):
            raise UsageError(
                f"{typed} is no name in UTF-8, and weights are opened by such names alone: give another {other}."
            )
        try:
            if folder.path.is_file():
                raise UsageError(f"{typed} is a file, and a run is a folder: give a name that is not taken.")
            there = folder.path.exists()
            found = [p.name for p in folder.path.iterdir() if not _passing(p)] if there else []
            _require_writable(folder.path, typed)
            folder._refuse_strangers()
        except OSError as error:
            raise UsageError(
                f"{typed} cannot be used ({(error.strerror or str(error)).lower()}): give another {other}."
            ) from error
        if not found:
            return folder
        if not folder.config.exists():
            some = ", ".join(sorted(found)[:3]) + (", ..." if len(found) > 3 else "")
            raise UsageError(
                f"{typed} is occupied, and not by a run (it holds {some}): give another {other}, for example "
                f"{option('out', _free_name(folder.path))}."
            )
        if not (resume or overwrite):
            add = (
                f"{option('resume', True)} to go on with it"
                if overwrite is None
                else f"{option('overwrite', True)} to replace it"
            )
            raise UsageError(
                f"{typed} already holds a run. Add {add}{kept}, or give another {other}, for example "
                f"{option('out', _free_name(folder.path))}."
            )
        if folder.lock.exists():
            with folder.locked():
                pass
        return folder

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder for the block: a second training of it is refused, a reader is not.

        Raises: RunError if it is being trained.
        """
        another = f"wait for its end, or give another {option('out')}"
        return locked(self.lock, f"the run in {self.path} is being trained", another)

    @classmethod
    def create(cls, path: str | Path, *, resume: bool = False) -> "RunFolder":
        """Make the folder (and its parents) after the same check as `vacant`."""
        folder = cls.vacant(path, resume=resume)
        make_folder(folder.checkpoint.parent)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run with an encoder in it.

        Raises: UsageError if `path` is not the folder of a run, or of one that has not saved an encoder yet.
        """
        folder = cls(path)
        if not os.path.exists(folder.path):  # noqa: PTH110  (Path's own raises for a name that is too long)
            raise UsageError(
                f"there is no run at {path}. Type the folder that was given to {option('out')}, or make one: "
                f"{command('train', 'DATA', out=path)}, or for photographs {command('adapt', 'DATA', out=path)}"
            )
        if not folder.config.exists():
            inside = (
                sorted(p.parent.name for p in folder.path.glob("*/config.yaml"))
                if folder.path.is_dir()
                else []
            )
            hint = (
                f" It has runs in it: {', '.join(str(Path(path) / name) for name in inside[:3])}."
                if inside
                else ""
            )
            raise UsageError(
                f"{path} is not a run: it has no config.yaml, which isosphere train and isosphere adapt write.{hint}"
            )
        folder._refuse_strangers()
        if not (folder.encoder.exists() and folder.encoder_spec.exists()):
            raise UsageError(
                f"the run {path} has saved no encoder yet: it stopped before its first checkpoint. "
                f"Go on with it: {command('train', 'DATA', out=path, resume=True)}"
            )
        return folder

    @classmethod
    def require_first(cls, path: str | Path, data: object, right: str) -> None:
        """Raises: UsageError where a run was given as images and images as the run; `right` is the command to type."""
        if not isinstance(data, (str, Path)):
            return
        with suppress(OSError):  # of a name that is too long
            if cls(path).config.is_file() or not cls(data).config.is_file():
                return
            raise UsageError(f"{data} is a run, and {path} is none: the run comes first. Type: {right}")

    # --- configuration and environment ----------------------------------------------------------------------

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write the resolved configuration as YAML that `safe_load` reads back."""
        write_text(self.config, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """The configuration of the run as nested mappings."""
        try:
            values = read_yaml(self.config)
        except UnreadableError as error:
            raise RunError(f"{self.config} cannot be read: {error}.") from None
        if not isinstance(values, dict) or not all(isinstance(section, dict) for section in values.values()):
            raise RunError(f"{self.config} is damaged: a mapping of sections was expected.")
        return values

    def write_environment(self) -> None:
        """Record versions and hardware."""
        write_json(self.environment, environment())

    def write_images(self, source: str, location: str, count: int, fingerprint: str) -> None:
        """Record the images of the training: what was typed for them, where that is from any folder, how many they
        were, and what they are known again by.
        """
        found = {"source": source, "location": location, "count": count, "fingerprint": fingerprint}
        write_json(self.images, found)

    def write_left_out(self, skipped: Sequence[tuple[str, str]]) -> Path:
        """List the files that could not be used, with the reasons."""
        lines = [f"{printable(path)}\t{printable(reason)}\n" for path, reason in skipped]
        write_text(self.left_out, "".join(lines))
        return self.left_out

    def read_images(self) -> dict[str, Any]:
        """What `write_images` wrote; empty for a run of an earlier version."""
        try:
            found = read_json(self.images)
        except UnreadableError:
            return {}
        return found if isinstance(found, dict) else {}

    def read_environment(self) -> dict[str, Any]:
        """What `write_environment` wrote; empty where that is absent or damaged."""
        try:
            found = read_json(self.environment)
        except UnreadableError:
            return {}
        return found if isinstance(found, dict) else {}

    def remote_id(self, earlier: str | None = None) -> str:
        """By which a service that is sent the figures knows this run, wherever its folder lies: kept in it.

        `earlier`: that of a run of which figures have been sent already, if none is kept.
        """
        with suppress(UnreadableError):
            if kept := read_text(self.remote, most=1000).strip():
                return kept
        made = earlier or secrets.token_hex(8)
        write_text(self.remote, made + "\n")
        return made

    def open_metrics(self) -> MetricsFile:
        """The appender of metrics.csv."""
        return MetricsFile(self.metrics)

    # --- weights --------------------------------------------------------------------------------------------

    def write_encoder(self, state: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        """Write the encoder's weights and, beside them, what is needed to rebuild it without the training
        code. What was learnt from other weights, `wccn` and `adaptation`, is removed.

        A ``step`` in `spec`, of the training, is kept in the file of weights as well.
        """
        for file in (self.wccn, self.older_wccn, self.adaptation):
            file.unlink(missing_ok=True)
        write_bytes(self.encoder, _pack(state, spec.get("step")))
        write_json(self.encoder_spec, {"format": ENCODER_FORMAT, **spec})

    def read_encoder(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The encoder's weights (on the CPU) and its specification."""
        spec = self.read_spec()
        return self._read(self.encoder, spec.get("step")), spec

    def read_spec(self) -> dict[str, Any]:
        """What is written of the encoder beside its weights. Raises: RunError if that is damaged."""
        try:
            spec = read_json(self.encoder_spec, most=_SPEC_BYTES)
        except UnreadableError as error:
            raise RunError(f"{self.encoder_spec} cannot be read: {error}.") from None
        if not isinstance(spec, dict) or spec.pop("format", None) != ENCODER_FORMAT:
            raise RunError(f"{self.encoder_spec} is of another format: {ENCODER_FORMAT!r} was expected.")
        return spec

    def write_method(self, state: Mapping[str, Any], *, step: int | None = None) -> None:
        """Write what the method has besides the encoder: head, teacher, inference network."""
        write_bytes(self.method, _pack(state, step))

    def read_method(self, *, step: int | None = None) -> dict[str, Any]:
        """The weights of `write_method`, on the CPU.

        Raises: RunError if they are of another `step` of the training than this one, that of the encoder.
        """
        return self._read(self.method, step)

    def write_wccn(self, state: Mapping[str, Any]) -> None:
        """Write the WCCN of the encoder that was written last."""
        write_bytes(self.wccn, _pack(state, self._step))
        self.older_wccn.unlink(missing_ok=True)

    def read_wccn(self) -> dict[str, Any] | None:
        """The tensors of `write_wccn`, on the CPU, also under the name of older versions; None where there are none."""
        found = next((file for file in (self.wccn, self.older_wccn) if file.exists()), None)
        return None if found is None else self._read(found, self._step)

    def write_adaptation(self, state: Mapping[str, Any]) -> None:
        """Write the adaptation of the encoder that was written last."""
        write_bytes(self.adaptation, _pack(state))

    def read_adaptation(self) -> dict[str, Any] | None:
        """The tensors of `write_adaptation`, on the CPU; None where there are none."""
        return self._read(self.adaptation) if self.adaptation.exists() else None

    def write_targets(self, targets: Any) -> None:
        """Write what a teacher says of each image ``(n, d)``, for a training that goes on."""
        write_bytes(self.targets, _pack({_TARGETS: targets}))

    def read_targets(self) -> Any | None:
        """The tensor of `write_targets`, on the CPU; None where there is none."""
        return self._read(self.targets)[_TARGETS] if self.targets.exists() else None

    def keep_weights(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Keep the weights of a whole method as they are after an epoch: ``checkpoints/epoch-0010.safetensors``."""
        write_bytes(self._kept(epoch), _pack(state))

    def write_start(self, state: Mapping[str, Any]) -> None:
        """Keep the weights that a training from given ones begins with, of the whole method."""
        write_bytes(self.start, _pack(state))

    def read_start(self) -> dict[str, Any] | None:
        """The weights of `write_start`, on the CPU; None where none were kept."""
        return self._read(self.start) if self.start.exists() else None

    def write_chosen(self, found: Mapping[str, Any]) -> None:
        """Record which weights the run has ended with, and what was measured of the others."""
        write_json(self.chosen, found)

    def read_chosen(self) -> dict[str, Any]:
        """What `write_chosen` wrote; empty where that is absent or damaged."""
        try:
            found = read_json(self.chosen)
        except UnreadableError:
            return {}
        return found if isinstance(found, dict) else {}

    def kept_epochs(self) -> list[int]:
        """The epochs of which weights were kept, in order."""
        found = (
            path.stem.removeprefix("epoch-") for path in self.checkpoint.parent.glob("epoch-*.safetensors")
        )
        return sorted(int(number) for number in found if number.isdecimal())

    def read_kept(self, epoch: int) -> dict[str, Any]:
        """The weights of `keep_weights`, on the CPU. Raises: UsageError if none were kept after this epoch."""
        if not self._kept(epoch).exists():
            some = (
                ", ".join(map(str, self.kept_epochs())) or f"none: train with {option('train.keep_every', 1)}"
            )
            raise UsageError(f"{self.path} has no weights of epoch {epoch}; kept are {some}.")
        return self._read(self._kept(epoch))

    @property
    def _step(self) -> int | None:
        """The step of the training that the encoder is of, where its file says so."""
        try:
            return self.read_spec().get("step")
        except RunError:
            return None

    def _read(self, file: Path, step: int | None = None) -> dict[str, Any]:
        tensors, about = read_tensors(file)
        of = about.get(_STEP)
        if None not in (of, step) and of != str(step):
            raise RunError(
                f"the weights of {self.path} do not belong together: {file.name} is of step {of} of the training, and "
                f"{self.encoder_spec.name} of step {step}. If it is being trained now, try again; a training that was "
                f"stopped between the two writes both again: {command('train', 'DATA', out=self.path, resume=True)}"
            )
        return tensors

    def _kept(self, epoch: int) -> Path:
        return self.checkpoint.parent / f"epoch-{epoch:04d}.safetensors"

    # --- results --------------------------------------------------------------------------------------------

    def read_evaluation(self) -> dict[str, Any]:
        """All that was evaluated so far, by task; empty before the first evaluation.

        Raises: RunError if the file is damaged, or of a version that this one does not know.
        """
        if not self.evaluation.exists():
            return {}
        try:
            found = dict(read_json(self.evaluation))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"{self.evaluation} is damaged ({error}): remove it and evaluate again."
            ) from error
        if (other := found.pop("format", EVALUATION_FORMAT)) != EVALUATION_FORMAT:
            raise RunError(
                f"{self.evaluation} is of another version of isosphere (format {other!r}; this one knows "
                f"{EVALUATION_FORMAT!r}): evaluate with that version, or move the file away."
            )
        return found

    def update_evaluation(self, tasks: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the named tasks, keep the others, and return all of them."""
        lock = self.path / f".{self.evaluation.name}.lock"
        being = f"{self.evaluation} is being written", "wait for its end"
        with locked(lock, *being, within=self.evaluation, patience=_PATIENCE):
            merged = {**self.read_evaluation(), **tasks}
            write_json(self.evaluation, {"format": EVALUATION_FORMAT, **merged})
        return merged

    @property
    def writable(self) -> bool:
        """Whether files can be put into the folder; a disk that is full is noticed in writing."""
        return os.access(self.path, os.W_OK | os.X_OK)


def _pack(state: Mapping[str, Any], step: int | None = None) -> bytes:
    """Tensors of a state; what is not a tensor belongs to the checkpoint alone."""
    import torch

    tensors = {name: value for name, value in state.items() if torch.is_tensor(value)}
    return pack_tensors(tensors, {} if step is None else {_STEP: str(step)})


def _require_writable(path: Path, typed: str) -> None:
    """Refuse a folder that cannot be written to, or made, before anything is done for it."""
    nearest = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise UsageError(f"{typed} lies within {nearest}, which is a file: give another {option('out')}.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(
            f"{typed} cannot be written: there is no right to write in {nearest}. Give another {option('out')}, or "
            "mend the permissions."
        )


def _passing(path: Path) -> bool:
    """Whether it is what a training leaves behind that was killed before it had written anything."""
    return path.name.endswith((".tmp", ".lock")) or (path.name == "checkpoints" and not any(path.iterdir()))


def _free_name(path: Path) -> Path:
    path = path if path.name else Path("run")  # of the folder we are in, or the root
    return next(name for i in range(2, 1000) if not (name := path.with_name(f"{path.name}-{i}")).exists())
