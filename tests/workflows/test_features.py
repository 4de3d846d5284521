"""Features computed as a source is read: those of images in memory, on any number of ranks, in little memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from isosphere.data import Views, load_images, open_source, recipe
from isosphere.errors import RunError
from isosphere.evaluation import centre_look, extract, extract_views, unpacked, views_look
from isosphere.workflows import _features as features
from isosphere.workflows._features import pixel_look, read
from isosphere.workflows._ranks import Ranks
from tests.ranks import WORLD

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Encoder(nn.Module):
    """Batch norm and dropout: whoever forgets evaluation mode is found out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.head = nn.Linear(5, 4)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.backbone(x).mean((2, 3))
        return found, self.head(found)


@pytest.fixture
def folder(tmp_path):
    for i in range(23):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    return tmp_path


def looks(model):
    views = Views(recipe("crops", 8))
    return {
        "centre": centre_look(model.embed, 8, MEAN, STD),
        "views": views_look(model.embed, views, seed=3),
        "pixels": pixel_look(4),
    }


def reading(source, ranks, batch=4, **options):
    torch.set_num_threads(1)
    features.BATCH = batch
    return read(
        source, looks(Encoder().train()), canvas=8, device=torch.device("cpu"), ranks=ranks, **options
    )


@pytest.fixture(autouse=True)
def batches(monkeypatch):
    monkeypatch.setattr(features, "BATCH", 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_read_is_what_is_extracted_from_memory(folder, workers):
    source = open_source(str(folder))
    found = reading(source, Ranks(), workers=workers)
    images, model = load_images(source, 8), Encoder()
    assert found.positions.tolist() == list(range(23))
    centre = extract(model.embed, images, 8, MEAN, STD, batch_size=4)
    drawn = extract_views(model.embed, images, Views(recipe("crops", 8)), seed=3, batch_size=4)
    for look, expected in (("centre", [centre]), ("views", drawn)):
        for got, features_of in zip(unpacked(found.rows[look]), expected, strict=True):
            assert torch.equal(got.backbone, features_of.backbone)
            assert torch.equal(got.head, features_of.head)
    small = images.images.float().view(23, 3, 4, 2, 4, 2).mean((3, 5)).round()
    assert (found.rows["pixels"]["pixels"].view(23, 3, 4, 4) - small).abs().max() <= 1
    assert found.rows["pixels"]["pixels"].dtype == torch.uint8


def on_ranks(rank, group, folder, strict):
    """The default group of the pool has all its ranks."""
    assert dist.get_world_size() == WORLD
    try:
        return reading(open_source(folder), Ranks(WORLD), strict=strict, workers=0)
    except RunError as error:
        return str(error)


@pytest.mark.parametrize(
    "broken", [(), ("a/0.png",), ("b/13.png", "a/2.png", "a/4.png", "a/0.png", "a/6.png")]
)
def test_ranks_read_their_shares_and_the_first_has_all_to_the_bit(ranks, folder, broken):
    for name in broken:
        (folder / name).write_bytes(b"no picture")
    expected = reading(open_source(str(folder)), Ranks())
    found = ranks.run(on_ranks, WORLD, [(str(folder), False)] * WORLD)
    assert found[1:] == [None] * (WORLD - 1)
    whole = found[0]
    assert torch.equal(whole.positions, expected.positions)
    assert len(whole.positions) == 23 - len(broken)
    assert whole.skipped == expected.skipped
    assert sorted(path for path, _ in whole.skipped) == sorted(broken)
    for look, rows in expected.rows.items():
        assert all(torch.equal(whole.rows[look][name], x) for name, x in rows.items())


def test_what_cannot_be_read_is_said(ranks, folder):
    (folder / "a" / "0.png").write_bytes(b"no picture")
    said = ranks.run(on_ranks, WORLD, [(str(folder), True)] * WORLD)
    assert "the other 22" in said[0]
    assert said[1:] == [None] * (WORLD - 1)
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(RunError, match="None of the 23 images"):
        reading(open_source(str(folder)), Ranks())


def test_modes_and_generators_are_left_alone(folder):
    model, before = Encoder().train(), torch.get_rng_state()
    read(
        open_source(str(folder)), looks(model), canvas=8, device=torch.device("cpu"), ranks=Ranks(), workers=0
    )
    assert model.training
    assert model.backbone[2].training
    assert torch.equal(before, torch.get_rng_state())


MEMORY = """
import resource, sys, tracemalloc
import numpy as np, torch
from PIL import Image
from torch import nn
from isosphere.data import Source
from isosphere.evaluation import centre_look
from isosphere.workflows._features import pixel_look, read
from isosphere.workflows._ranks import Ranks

class Noise(Source):
    def image(self, i, *, at_least=None):
        return Image.fromarray(np.full((128, 128, 3), i % 251, np.uint8))

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 64, 3, 4))
    def embed(self, x):
        found = self.net(x).mean((2, 3))
        return found, found

torch.set_num_threads(1)
def peak(count):
    model = Encoder()
    looks = {"centre": centre_look(model.embed, 64, (0.5,) * 3, (0.2,) * 3), "pixels": pixel_look(32)}
    made = read(Noise("n", [str(i) for i in range(count)]), looks, canvas=128, device=torch.device("cpu"),
                ranks=Ranks(), workers=int(sys.argv[1]))
    rows = sum(x.numel() * x.element_size() for look in made.rows.values() for x in look.values())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rows
first, few = peak(768)
second, many = peak(3840)
print(second - first, many - few)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_grows_by_the_rows_alone(workers):
    """3,072 images more, of 128 px: their pixels would be 151 MB, their rows are 10 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(workers)], capture_output=True, text=True, check=True
    )
    grown, rows = map(int, done.stdout.split())
    assert rows == 3072 * (64 * 4 + 3 * 32 * 32)  # one output that stands for both
    assert grown < rows + 40e6
