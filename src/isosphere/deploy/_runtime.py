"""What a bundle is used by: its files checked, vectors, search, classes. Needs numpy, Pillow and onnxruntime alone; a
bundle brings this file along.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from isosphere.data import pixels

FORMAT = "isosphere-bundle-1"
ABOUT = "bundle.json"
TOLERANCE = 1e-4
"""By how much a number of a reference vector may differ."""
_MOST_ABOUT = 1 << 24
_ROUNDS = 5


class BundleError(Exception):
    """Why a folder cannot be used as a bundle, or a question cannot be answered, in one sentence."""


def digest_of(file):
    """sha256 of a file, read a piece at a time."""
    found = hashlib.sha256()
    with Path(file).open("rb") as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def version_of(files):
    """What tells a bundle from every other one: a digest of the digests of its files."""
    listed = "\n".join(f"{name} {files[name]['sha256']}" for name in sorted(files))
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def read_about(folder):
    """``bundle.json`` of a bundle of which every file is whole. Raises: BundleError, which names the file."""
    folder = Path(folder)
    try:
        with (folder / ABOUT).open("rb") as stream:
            about = json.loads(stream.read(_MOST_ABOUT))
        known, version, files = about["format"] == FORMAT, about["version"], about["files"]
        sizes = {name: (int(each["bytes"]), str(each["sha256"])) for name, each in files.items()}
    except OSError as error:
        raise BundleError(
            f"{folder} is no bundle, or was not written to its end: {ABOUT}, which is written last, cannot be read "
            f"({error.strerror})."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{folder / ABOUT} is damaged.") from None
    if not known:
        raise BundleError(f"{folder / ABOUT} is of another format: {FORMAT} was expected.")
    for name, (size, digest) in sizes.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BundleError(f"{folder / ABOUT} names a file outside of the bundle: {name}.")
        if not file.is_file():
            raise BundleError(f"{file} is missing: the bundle is not whole, copy it again.")
        if file.stat().st_size != size:
            raise BundleError(
                f"{file} is cut short or replaced: {file.stat().st_size:,} bytes, expected {size:,}. Copy it again."
            )
        if digest_of(file) != digest:
            raise BundleError(f"{file} is damaged or of another bundle: its digest is not the recorded one.")
    if version_of(files) != version:
        raise BundleError(f"{folder / ABOUT} is damaged: its version is not that of its files.")
    return about


def unit(rows):
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


class Bundle:
    """An encoder with all that belongs to it, from a folder that ``isosphere bundle`` wrote.

    Pictures are files, their bytes, pictures of Pillow or arrays (h, w[, bands]). ``version`` and ``network`` are
    digests: vectors of different networks cannot be compared.
    """

    def __init__(self, folder, *, threads=0):
        """`threads` of the network; 0: as many as there are cores. Raises: BundleError."""
        import onnxruntime  # pyright: ignore[reportMissingImports]

        self.folder, self.about = Path(folder), read_about(folder)
        self.version, self.network = self.about["version"], self.about["network"]
        self.layer, self.dim, self.threshold = (self.about[key] for key in ("layer", "dim", "threshold"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its arena keeps what batches of every size once needed.
        options.enable_cpu_mem_arena = False
        self.session = onnxruntime.InferenceSession(
            str(self.folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.vectors = np.load(self.folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        self.copies = None
        if self.about.get("copies", self.layer) != self.layer:
            self.copies = np.load(self.folder / "copies.npy", mmap_mode="r", allow_pickle=False)
        self.images = json.loads((self.folder / "images.json").read_text(encoding="utf-8"))
        self.classifier = None
        if self.about["classes"]:
            with np.load(self.folder / "classifier.npz", allow_pickle=False) as arrays:
                self.classifier = {name: arrays[name] for name in ("weight", "bias", "network")}
        self._require_one_network()

    def _require_one_network(self):
        parts = {"images.json": self.images["network"]}
        if self.classifier is not None:
            parts["classifier.npz"] = str(self.classifier["network"])
        for name, network in parts.items():
            if network != self.network:
                raise BundleError(f"{self.folder / name} is of another network than this bundle's.")
        count = len(self.images["paths"])
        if self.vectors.shape != (count, self.dim) or (self.copies is not None and len(self.copies) != count):
            raise BundleError(f"vectors in {self.folder} do not belong to images.json.")

    def prepare(self, picture, *, whole=False) -> Any:
        """A picture as the network takes it: float32 (channels, size, size). `whole`: all of it, as it is searched by;
        else its centre, as it is embedded and classified by. Raises: ValueError for a picture of other channels, and
        what Pillow raises.
        """
        given = self.about["preprocessing"]["whole" if whole else "centre"]
        made = pixels(picture, **{name: _tuples(value) for name, value in given.items()})
        if len(made) != self.about["channels"]:
            raise ValueError(f"it has {len(made)} channels, and {self.about['channels']} are expected")
        return made

    def run(self, prepared):
        """Outputs for prepared pictures (n, channels, size, size): ``embeddings`` (n, d), unit rows; where there is a
        classifier ``features``, which it takes; where copies are told by another layer than that of the embeddings
        ``copies``.
        """
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"images": prepared}), strict=True))

    def embed(self, pictures, *, whole=False):
        """Unit vectors of pictures, float32 (n, d)."""
        return self.run(np.stack([self.prepare(each, whole=whole) for each in pictures]))["embeddings"]

    def search(self, picture, k=5):
        """The k images of the index most like a picture, all of it looked at, best first."""
        outputs = self.run(self.prepare(picture, whole=True)[None])
        return self.nearest(outputs["embeddings"], k, outputs.get("copies"))[0]

    def nearest(self, vectors, k=5, copies=None):
        """The k images most like each vector (n, d): their names, cosines and classes, and where it can be told whether
        they are copies by the threshold. Of equals the earlier image comes first.

        `copies`: the output of that name for the same pictures, where there is one.
        """
        cosines = unit(np.asarray(vectors, np.float32)) @ np.asarray(self.vectors).T
        others = [None] * len(cosines) if copies is None else unit(np.asarray(copies, np.float32))
        return [self._best(row, min(k, len(row)), other) for row, other in zip(cosines, others, strict=True)]

    def _best(self, cosines, k, other):
        # Of equals at the last place the earlier ones count.
        last = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
        chosen = np.flatnonzero(cosines >= last)
        rows = chosen[np.lexsort((chosen, -cosines[chosen]))][:k]
        alike = self._alike(cosines, rows, other)
        return [
            self._match(int(row), min(1.0, float(cosines[row])), by)
            for row, by in zip(rows, alike, strict=True)
        ]

    def _alike(self, cosines, rows, other):
        """The cosines by which these rows are copies or are not; None where they cannot be told."""
        if self.threshold is None or (self.copies is not None and other is None):
            return [None] * len(rows)
        return cosines[rows] if self.copies is None else self.copies[rows] @ other

    def _match(self, row, similarity, alike):
        label = self.images["labels"][row]
        found = {"path": self.images["paths"][row], "similarity": round(similarity, 6)}
        found["label"] = self.images["class_names"][label] if label >= 0 else None
        if alike is not None:
            found["copy"] = bool(alike >= self.threshold - 1e-6)
        return found

    def classify(self, pictures):
        """The most probable class of each picture, and the probabilities of all. Raises: BundleError without one."""
        return self.classes_of(self.run(np.stack([self.prepare(each) for each in pictures])).get("features"))

    def classes_of(self, features):
        """The same of the output ``features`` (n, p)."""
        if self.classifier is None or features is None:
            raise BundleError(
                "this bundle has no classifier: isosphere probe makes one, isosphere bundle takes it."
            )
        logits = features @ self.classifier["weight"] + self.classifier["bias"]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        names = self.about["classes"]
        return [
            {
                "label": names[int(row.argmax())],
                "confidence": round(float(row.max()), 6),
                "probabilities": {name: round(float(p), 6) for name, p in zip(names, row, strict=True)},
            }
            for row in shares
        ]

    def check(self):
        """The reference images embedded here: the largest difference to their vectors, and how long one picture takes,
        in milliseconds (median, and that of 95 in 100). Raises: BundleError if a number differs by more than 1e-4.
        """
        names, worst = self.about["references"], 0.0
        if not names:
            raise BundleError("this bundle has no reference images to check by.")
        files = [self.folder / "references" / name for name in names]
        with np.load(self.folder / "references.npz", allow_pickle=False) as expected:
            for kind in expected.files:
                output = "copies" if kind == "copies" else "embeddings"
                for file, row in zip(files, expected[kind], strict=True):
                    made = self.run(self.prepare(file, whole=kind != "centre")[None])[output]
                    error = float(np.abs(unit(made)[0] - row).max())
                    worst = max(worst, error)
                    if not error <= TOLERANCE:
                        raise BundleError(
                            f"the vector of {file} differs from the recorded one by {error:.1e}, and at most "
                            f"{TOLERANCE:.0e} is accepted: another version of Pillow or onnxruntime, or a damaged file."
                        )
        times = []
        for _ in range(_ROUNDS):
            for file in files:
                begun = time.perf_counter()
                self.embed([file])
                times.append(1000 * (time.perf_counter() - begun))
        p50, p95 = (float(np.quantile(times, share)) for share in (0.5, 0.95))
        return {"images": len(files), "difference": worst, "p50": p50, "p95": p95}


def _tuples(value) -> Any:
    """Lists of JSON as Pillow takes them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def main(words):
    """``python bundle.py --check`` checks the folder it lies in; ``python bundle.py PICTURE ...`` searches."""
    try:
        if set(words) & {"-h", "--help"}:
            print(main.__doc__)
            return 0
        bundle = Bundle(Path(__file__).parent)
        if words and words[0] != "--check":
            for word in words:
                print(json.dumps({"query": word, "matches": bundle.search(word)}, indent=2))
            return 0
        print(in_words(bundle))
    except (BundleError, OSError, ValueError) as error:
        print(f"bundle: {error}")
        return 1
    return 0


def in_words(bundle):
    """What :meth:`Bundle.check` has found."""
    found = bundle.check()
    return (
        f"{found['images']} reference vectors reproduced, largest difference {found['difference']:.1e}; one picture "
        f"takes {found['p50']:.1f} ms (p50), {found['p95']:.1f} ms (p95)"
    )


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
