"""A service to be asked: a bundle whose network is a few lines of numpy, so that it needs no onnxruntime."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isosphere.data import PIXELS
from isosphere.deploy import Bundle, Limits, serve_bundle

ROOT = Path(__file__).resolve().parents[2]
DIM, SIDE = 6, 8


class NumpyBundle(Bundle):
    """Colours of the four quarters, projected; `pause` seconds a batch. Batches are counted in ``sizes``."""

    def __init__(self, pause: float = 0.0, images: int = 20) -> None:
        rng = np.random.default_rng(0)
        self.pause, self.sizes = pause, list[int]()
        self.weight = rng.normal(size=(3 * 4, DIM)).astype(np.float32)
        shape = {"canvas": SIDE, "size": SIDE, "white": None, "ground": None, "page": 1}
        self.about = {
            "preprocessing": {
                "centre": {**shape, "fit": "crop"},
                "whole": {**shape, "fit": "squeeze"},
            },
            "classes": ["dark", "bright"],
            "channels": 3,
            "pixels": PIXELS,
        }
        self.folder, self.version, self.network, self.layer = Path(), "v1", "n1", "adapted"
        self.dim, self.threshold, self.copies = DIM, 0.99, None
        rows = rng.normal(size=(images, DIM)).astype(np.float32)
        self.vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        names = [f"{i}.png" for i in range(images)]
        self.images = {"network": "n1", "paths": names, "labels": [i % 2 for i in range(images)]}
        self.images["class_names"] = ["even", "odd"]
        self.classifier = {"weight": rng.normal(size=(DIM, 2)).astype(np.float32), "bias": np.zeros(2)}

    def run(self, prepared):
        self.sizes.append(len(prepared))
        time.sleep(self.pause)
        quarters = prepared.reshape(len(prepared), 3, 2, SIDE // 2, 2, SIDE // 2).mean((3, 5))
        features = quarters.reshape(len(prepared), -1) @ self.weight
        with np.errstate(invalid="ignore"):  # a black picture has no direction
            rows = features / np.linalg.norm(features, axis=1, keepdims=True)
        return {"embeddings": rows.astype(np.float32), "features": features}


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    body: Any = None,
    *,
    timeout: float = 60.0,
    method: str | None = None,
    **headers: str,
) -> Answer:
    """One request, in its own connection; names of headers are spelt with _."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, given)
        found = connection.getresponse()
        return Answer(found.status, found.read(), {k.lower(): v for k, v in found.getheaders()})
    finally:
        connection.close()


@contextmanager
def started(command: list[str], **environment: str):
    """A service in a process of its own, which prints its address; yields the process and the port."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=env
    ) as process:
        try:
            said = []
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "http://" in line:
                    break
            assert said, "the service said nothing"
            assert "http://" in said[-1], "".join(said)
            port = int(said[-1].strip().rpartition(":")[2])
            drained = threading.Thread(target=process.stdout.read, daemon=True)
            drained.start()
            yield process, port
        finally:
            process.kill()


def numpy_service(pause: float = 0.0, token: str = "", **limits: float):
    """The service of a :class:`NumpyBundle`."""
    given = json.dumps({"pause": pause, "token": token, "limits": limits})
    return started([sys.executable, "-m", "tests.deploy.service", given])


def main(given: str) -> None:
    asked = json.loads(given)
    serve_bundle(
        NumpyBundle(asked["pause"]),
        port=0,
        limits=Limits(**asked["limits"]),
        token=asked["token"] or None,
        ready=lambda address: print(address, flush=True),
    )


if __name__ == "__main__":
    main(sys.argv[1])
