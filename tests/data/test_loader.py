"""The order of images: a pure function of seed and epoch, whatever the workers, the ranks and the start."""

import gc
import weakref
from itertools import chain

import numpy as np
import pytest
import torch

from isosphere.data import ImageSet, Loader, Source, load_images, open_source
from isosphere.data._random import permutation
from isosphere.errors import RunError, UsageError


def numbered(n: int = 23, size: int = 4) -> ImageSet:
    """Images that show their own position."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, size, size).clone()
    return ImageSet(images, np.full(n, -1), [f"{i}.png" for i in range(n)])


@pytest.fixture
def source(make_folder):
    return open_source(make_folder([f"{i:02}.png" for i in range(23)]))


def numpy_state() -> np.ndarray:
    return np.array(np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def positions(loader: Loader, epoch: int, start: int = 0) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader.epoch(epoch, start)]


def test_an_epoch_is_the_permutation_of_seed_and_epoch():
    loader = Loader(numbered(), batch_size=5, seed=3)
    assert len(loader) == 4
    for epoch in (0, 1):
        assert list(chain(*positions(loader, epoch))) == permutation(23, 3, epoch)[:20].tolist()
    assert positions(loader, 0) != positions(loader, 1)
    assert positions(loader, 0) == positions(Loader(numbered(), batch_size=5, seed=3), 0)
    assert positions(loader, 0) != positions(Loader(numbered(), batch_size=5, seed=4), 0)


def test_batches_hold_the_images_that_they_name():
    for batch in Loader(numbered(), batch_size=5, drop_last=False).epoch(0):
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (len(batch.index), 3, 4, 4)
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)


def test_the_last_batch_is_dropped_or_kept():
    assert [len(b) for b in positions(Loader(numbered(), batch_size=5), 0)] == [5] * 4
    kept = positions(Loader(numbered(), batch_size=5, drop_last=False), 0)
    assert [len(b) for b in kept] == [5, 5, 5, 5, 3]
    assert sorted(chain(*kept)) == list(range(23))
    assert [len(b) for b in positions(Loader(numbered(20), batch_size=5, drop_last=False), 0)] == [5] * 4


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_the_batches_of_one_process(world, drop_last):
    alone = positions(Loader(numbered(), batch_size=6, seed=1, drop_last=drop_last), 2)
    loaders = [
        Loader(numbered(), batch_size=6, seed=1, rank=r, world=world, drop_last=drop_last)
        for r in range(world)
    ]
    ranks = [positions(loader, 2) for loader in loaders]
    assert {len(loader) for loader in loaders} == {len(alone)} == {len(r) for r in ranks}
    for k, whole in enumerate(alone):
        equal = len(whole) - len(whole) % world
        assert [ranks[i % world][k][i // world] for i in range(equal)] == whole[:equal]
        assert {len(r[k]) for r in ranks} == {equal // world}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stream_gives_the_same_batches_as_memory(source, workers):
    memory = Loader(load_images(source, 8), batch_size=5, seed=2)
    stream = Loader(source, batch_size=5, size=8, seed=2, workers=workers)
    for epoch in (0, 3):
        for ours, theirs in zip(stream.epoch(epoch), memory.epoch(epoch), strict=True):
            assert torch.equal(ours.index, theirs.index)
            assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize("streamed", [False, True])
def test_starting_in_the_middle_gives_the_rest_of_the_epoch(source, streamed):
    def build() -> Loader:
        if streamed:
            return Loader(source, batch_size=5, size=8, seed=2, workers=1)
        return Loader(load_images(source, 8), batch_size=5, seed=2)

    loader = build()
    whole = positions(loader, 4)
    for start in (0, 1, 3, 4):
        assert positions(build(), 4, start) == whole[start:]
    half = loader.epoch(5)  # an epoch that was broken off leaves nothing behind
    next(half)
    next(half)
    del half
    assert positions(loader, 4) == whole
    for start in (-1, 5):
        with pytest.raises(ValueError, match=f"start is {start}; expected 0 to 4"):
            loader.epoch(0, start)


def test_two_epochs_from_memory_do_not_disturb_each_other():
    loader = Loader(numbered(), batch_size=5)
    pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    assert [a.index.tolist() for a, _ in pairs] == positions(loader, 0)
    assert [b.index.tolist() for _, b in pairs] == positions(loader, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generators_are_left_alone(source, workers):
    before, numpy_before = torch.get_rng_state(), numpy_state()
    for loader in (
        Loader(source, batch_size=5, size=8, workers=workers),
        Loader(load_images(source, 8), batch_size=5),
    ):
        positions(loader, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, numpy_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_replaced_by_the_next_and_named(make_folder, workers):
    folder = make_folder([f"{i:02}.png" for i in range(12)] + ["x.jxl"])
    for i in (3, 4, 11):
        (folder / f"{i:02}.png").write_bytes(b"broken")
    loader = Loader(open_source(folder), batch_size=4, size=8, seed=1, workers=workers)
    assert loader.skipped == {"x.jxl": ".jxl is not read here: convert it to .png or .jpg"}
    replaced = {3: 5, 4: 5, 11: 0}
    expected = [[replaced.get(i, i) for i in b] for b in permutation(12, 1, 0).view(3, 4).tolist()]
    assert positions(loader, 0) == expected
    assert sorted(loader.skipped) == ["03.png", "04.png", "11.png", "x.jxl"]
    assert positions(loader, 0) == expected


def test_strict_and_hopeless_streams_end_with_the_names(make_folder):
    folder = make_folder([f"{i}.png" for i in range(4)])
    (folder / "2.png").write_bytes(b"broken")
    strict = Loader(open_source(folder), batch_size=4, size=8, workers=0, strict=True)
    with pytest.raises(RunError, match=r"1 image cannot be read: 2\.png \(not an image.*leave out strict"):
        positions(strict, 0)
    for i in (0, 1, 3):
        (folder / f"{i}.png").write_bytes(b"broken")
    hopeless = Loader(open_source(folder), batch_size=4, size=8, workers=0)
    with pytest.raises(RunError, match=r"4 images cannot be read: .*and 1 more\. Remove or repair them\."):
        positions(hopeless, 0)
    (folder / "x.jxl").write_bytes(b"x")
    with pytest.raises(RunError, match=r"x\.jxl"):
        Loader(open_source(folder), batch_size=2, size=8, strict=True)


def test_too_few_images_say_what_to_type():
    with pytest.raises(UsageError, match=r"images has 23 images and a batch takes 24: .*batch_size=23"):
        Loader(numbered(), batch_size=24)
    with pytest.raises(UsageError, match=r"batch_size=22\)"):
        Loader(numbered(), batch_size=24, world=2)
    assert len(Loader(numbered(), batch_size=24, drop_last=False)) == 1
    assert len(Loader(numbered(), batch_size=1)) == 23


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a positive multiple of the 1 ranks"),
        ({"batch_size": 5, "world": 2}, "batch_size is 5; expected a positive multiple of the 2 ranks"),
        ({"batch_size": 4, "world": 2, "rank": 2}, "rank is 2; expected 0 to 1"),
        ({"batch_size": 4, "size": 5}, "size is 5; the images in memory have 4 pixels a side"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Loader(numbered(), **options)


def test_a_stream_needs_a_size(source):
    with pytest.raises(ValueError, match="size is missing"):
        Loader(source, batch_size=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: there is one device only")
@pytest.mark.parametrize("streamed", [False, True])
def test_batches_come_on_the_device(source, streamed):
    images = source if streamed else load_images(source, 8)
    here = Loader(load_images(source, 8), batch_size=5)
    there = Loader(images, batch_size=5, size=8, device="cuda")
    for ours, theirs in zip(here.epoch(0), there.epoch(0), strict=True):
        assert theirs.images.is_cuda
        assert theirs.index.is_cuda
        assert torch.equal(ours.images, theirs.images.cpu())
        assert torch.equal(ours.index, theirs.index.cpu())


def test_short_epochs_part_a_pass_over_all_images(source):
    images = load_images(source, 8)
    n, part = len(images), len(images) // 3
    loader = Loader(images, batch_size=2, epoch_images=part, drop_last=False, seed=5)
    epochs = [torch.cat([batch.index for batch in loader.epoch(e)]).tolist() for e in range(6)]
    assert all(len(x) == part for x in epochs)
    for first in (0, 3):
        assert sum(epochs[first : first + 3], []) == permutation(n, 5, first // 3)[: 3 * part].tolist()  # noqa: RUF017
    whole = Loader(images, batch_size=2, epoch_images=n, seed=5)
    plain = Loader(images, batch_size=2, seed=5)
    for a, b in zip(whole.epoch(1), plain.epoch(1), strict=True):
        assert torch.equal(a.index, b.index)
    for wrong in (0, n + 1):
        with pytest.raises(UsageError, match=f"an epoch of {wrong} images is asked for, and .* has {n}"):
            Loader(images, batch_size=2, epoch_images=wrong)
    with pytest.raises(UsageError, match="an epoch of 2 images holds no batch of 4"):
        Loader(images, batch_size=4, epoch_images=2)


def test_the_workers_of_a_dropped_loader_and_of_the_next_leave_each_other_alone(source, capfd, new_processes):
    class Collecting(Source):
        def image(self, i, *, at_least=None):
            gc.collect()  # in a worker: of what the parent had dropped before the fork, too
            return source.image(i, at_least=at_least)

    loader = Loader(source, batch_size=5, size=8, workers=2)
    half = loader.epoch(0)
    next(half)
    cycle: list = [loader, half]
    cycle.append(cycle)
    dropped = weakref.ref(loader)
    gc.disable()
    try:
        del cycle, loader, half
        again = Loader(Collecting("x", source.paths), batch_size=5, size=8, workers=2)
        assert len(positions(again, 0)) == 4
        assert new_processes() == 4
        first = dropped()
        assert first is not None
        assert positions(first, 0) == positions(again, 0)
        for loader in (first, again):
            loader.close()
        assert new_processes() == 0
        assert len(positions(again, 1)) == 4, "a closed loader may go on"
        again.close()
    finally:
        gc.enable()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_fails_leaves_no_process_and_the_next_begins_anew(make_folder, workers, new_processes):
    folder = make_folder([f"{i:02}.png" for i in range(20)])
    folder.joinpath("03.png").write_bytes(b"broken")
    source = open_source(folder)
    loader = Loader(source, batch_size=5, size=8, workers=workers, strict=True)
    for epoch in range(2):
        with pytest.raises(RunError, match=r"1 image cannot be read: 03\.png"):
            positions(loader, epoch)
        assert new_processes() == 0
