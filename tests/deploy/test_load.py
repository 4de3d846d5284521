"""A bundle of the default network under load: so many requests a second, for so long, without growth of memory.

``ISOSPHERE_LOAD_SECONDS=600`` for ten minutes; ``ISOSPHERE_LOAD_RATE`` requests a second.
"""

import io
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import isosphere

from .conftest import picture
from .service import ask, started
from .test_serve import memory

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("ISOSPHERE_LOAD_SECONDS", "60"))
RATE = float(os.environ.get("ISOSPHERE_LOAD_RATE", "4"))
GROWTH = 25.0
"""MiB that the second half may take more than the first has taken."""


@pytest.mark.timeout(2 * SECONDS + 600)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc")  # noqa: PTH110
def test_the_rate_is_held_and_memory_does_not_grow(tmp_path, monkeypatch, capsys):
    for module in ("onnx", "onnxscript", "onnxruntime", "starlette", "uvicorn"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    name = "tf_efficientnet_lite0"
    torch.save(timm.create_model(name, num_classes=0).state_dict(), tmp_path / "w.pth")
    (tmp_path / "pics").mkdir()
    for i in range(24):
        picture(i, 320).resize((640, 480)).save(tmp_path / "pics" / f"{i:02d}.jpg", quality=90)
    isosphere.adapt(
        tmp_path / "pics", tmp_path / "run", init=tmp_path / "w.pth", encoder=name, progress=False
    )
    isosphere.bundle(tmp_path / "run", tmp_path / "served", progress=False)
    pictures = [file.read_bytes() for file in sorted((tmp_path / "pics").iterdir())]
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)).save(
        large, "JPEG"
    )
    pictures += [large.getvalue(), b"no picture"]
    command = [sys.executable, "-c", "from isosphere.cli import main; raise SystemExit(main())"]
    took, statuses, sizes, guard = list[float](), list[int](), list[float](), threading.Lock()
    with (
        started([*command, "serve", str(tmp_path / "served"), "--port", "0"]) as (process, port),
        ThreadPoolExecutor(64) as clients,
    ):

        def one(i: int) -> None:
            begun = time.monotonic()
            found = ask(port, ("/embed", "/search?k=5")[i % 2], pictures[i % len(pictures)])
            with guard:
                took.append(time.monotonic() - begun)
                statuses.append(found.status)

        begun, count = time.monotonic(), int(RATE * SECONDS)
        asked = []
        for i in range(count):
            time.sleep(max(0.0, begun + i / RATE - time.monotonic()))
            asked.append(clients.submit(one, i))
            if i % max(1, count // 100) == 0:
                sizes.append(memory(process.pid))
        for each in asked:
            each.result()
        lasted = time.monotonic() - begun
    p50, p95 = np.quantile(took, [0.5, 0.95])
    early, late = max(sizes[len(sizes) // 5 : len(sizes) // 2]), max(sizes[len(sizes) // 2 :])
    with capsys.disabled():
        print(
            f"\n{count} requests at {RATE:g} a second in {lasted:.0f} s: {statuses.count(200)} answered, p50 "
            f"{1000 * p50:.0f} ms, p95 {1000 * p95:.0f} ms, resident {early:.0f} MiB, then {late:.0f} MiB"
        )
    assert set(statuses) == {200, 400}
    assert statuses.count(400) == sum(i % len(pictures) == len(pictures) - 1 for i in range(count))
    assert lasted < SECONDS + 10
    assert late - early < GROWTH
