"""Shares of images: they cover everything, and features over ranks are those of one process to the bit."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from isosphere.data import Views, load_images, open_source, recipe
from isosphere.errors import RunError
from isosphere.evaluation import extract, extract_views, load_shares, share
from tests.ranks import WORLD

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU())
        self.head = nn.Linear(5, 4)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(x).mean((2, 3))
        return features, self.head(features)


def images(n):
    return torch.randint(
        0, 256, (n, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("count", [0, 1, 4, 11, 12, 13, 40])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_follow_each_other_in_whole_batches(count, world):
    spans = [share(count, rank=r, world=world, batch_size=4) for r in range(world)]
    assert [i for span in spans for i in span] == list(range(count))
    assert all(span.start % 4 == 0 or len(span) == 0 for span in spans)
    batches = [-(-len(span) // 4) for span in spans]
    assert max(batches) - min(batches) <= 1


def test_a_share_of_no_rank_is_refused():
    with pytest.raises(ValueError, match="expected 0 to 1"):
        share(10, rank=2, world=2)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        share(10, rank=0, world=2, batch_size=0)


def encode(rank, group, own, batch_size):
    model, views = Encoder().train(), Views(recipe("crops", 16))
    centre = extract(model.embed, own, 16, MEAN, STD, batch_size=batch_size, group=group)
    drawn = extract_views(model.embed, own, views, seed=3, batch_size=batch_size, group=group)
    alone = extract(model.embed, images(2), 16, MEAN, STD, group=False)
    return centre, drawn, len(alone)


@pytest.mark.parametrize(("count", "world"), [(22, 2), (22, 3), (5, 3)])
def test_features_over_ranks_are_those_of_one_process_to_the_bit(ranks, count, world):
    """Also where a rank has no images at all (5 images in batches of 4 on 3 ranks)."""
    torch.set_num_threads(1)
    x = images(count)
    own = [x[list(share(count, rank=r, world=world, batch_size=4))] for r in range(world)]
    found = ranks.run(encode, world, [(part, 4) for part in own])
    model, views = Encoder(), Views(recipe("crops", 16))
    centre = extract(model.embed, x, 16, MEAN, STD, batch_size=4)
    drawn = extract_views(model.embed, x, views, seed=3, batch_size=4)
    for got, got_views, alone in found:
        assert alone == 2
        for a, b in [(got, centre), *zip(got_views, drawn, strict=True)]:
            assert torch.equal(a.backbone, b.backbone)
            assert torch.equal(a.head, b.head)


def test_other_divisions_agree_to_rounding(ranks):
    x = images(22)
    found = ranks.run(encode, 2, [(x[:9], 4), (x[9:], 4)])
    centre = extract(Encoder().embed, x, 16, MEAN, STD, batch_size=4)
    torch.testing.assert_close(found[1][0].head, centre.head, rtol=1e-5, atol=1e-6)


def no_images(rank, group):
    with pytest.raises(ValueError, match="n >= 1"):
        extract(Encoder().embed, images(0), 16, MEAN, STD, group=group)


def test_no_images_on_any_rank_are_refused_on_all(ranks):
    ranks.run(no_images, 2, [(), ()])


def load(rank, group, folder, strict):
    """The default group of the pool has three ranks."""
    assert dist.get_world_size() == WORLD
    source = open_source(folder)
    try:
        whole, own = load_shares(source, 8, batch_size=4, strict=strict)
    except RunError as error:
        return str(error)
    return whole, own


@pytest.fixture
def folder(tmp_path):
    for i in range(15):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("broken", [(), ("a/0.png",), ("b/13.png", "a/2.png", "a/4.png")])
def test_each_rank_decodes_its_share_and_the_first_has_all(ranks, folder, broken):
    for name in broken:
        (folder / name).write_bytes(b"no picture")
    expected = load_images(open_source(str(folder)), 8)
    found = ranks.run(load, WORLD, [(str(folder), False)] * WORLD)
    whole = found[0][0]
    assert [part is None for part, _ in found] == [False, True, True]
    assert torch.equal(whole.images, expected.images)
    assert whole.labels.tolist() == expected.labels.tolist()
    assert (whole.paths, whole.skipped) == (expected.paths, expected.skipped)
    for rank, (_, own) in enumerate(found):
        span = share(len(expected), rank=rank, world=WORLD, batch_size=4)
        assert torch.equal(own, expected.images[span.start : span.stop])


def test_what_cannot_be_read_is_said_by_every_rank(ranks, folder):
    (folder / "a" / "0.png").write_bytes(b"no picture")
    said = ranks.run(load, WORLD, [(str(folder), True)] * WORLD)
    assert len(set(said)) == 1
    assert "leave out strict to go on with the other 14" in said[0]
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"no picture")
    said = ranks.run(load, WORLD, [(str(folder), False)] * WORLD)
    assert len(set(said)) == 1
    assert said[0].startswith("None of the 15 images")
