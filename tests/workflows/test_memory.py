"""An evaluation of 60,000 images of 128 px in 2 GB and the features; their pixels would be 3 GB, as floats 12."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np, torch
from PIL import Image
import isosphere
from isosphere.data import Source

COUNT, CLASSES = 60_000, 10
torch.set_num_threads(2)

class Blobs(Source):
    '''Pictures of 128 px, each made when it is asked for.'''
    def image(self, i, *, at_least=None):
        of_class, own = np.random.default_rng(i % CLASSES), np.random.default_rng(i)
        small = of_class.integers(0, 128, (4, 4, 3)) + own.integers(0, 128, (4, 4, 3))
        return Image.fromarray(small.astype(np.uint8)).resize((128, 128), Image.Resampling.BILINEAR)

labels = np.arange(COUNT) % CLASSES
source = Blobs("blobs", [str(i) for i in range(COUNT)], labels=labels, class_names=list("abcdefghij"))
model = {"encoder": "test_efficientnet", "image_size": 64, "set": {"data.canvas_size": 128, "model.dim": 64}}
run = isosphere.train(source.subset(range(256)), sys.argv[1], epochs=0, progress=False, device="cpu", **model)
found = run.evaluate(source, progress=False, cache=False)
assert found["knn"].one(model="pixels").value > 0.5
p, d = run.encoder.feature_dim, 64
rows = 2 * 4 * (p + d) * (COUNT + 2 * COUNT // 5) + 3 * 32**2 * COUNT
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rows)
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_sixty_thousand_images_fit_in_two_gigabytes_and_their_features(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, rows = map(int, done.stdout.split()[-2:])
    assert peak < 2e9 + rows, f"{peak / 1e9:.2f} GB, of which the features are {rows / 1e9:.2f}"
