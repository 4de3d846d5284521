"""Features kept on disk: the same bits, nothing stale, never more than the limit."""

import hashlib
import os

import numpy as np
import pytest
import torch
from torch import nn

from isosphere.evaluation import FeatureCache
from isosphere.evaluation import _cache as cache_module
from isosphere.evaluation._cache import weights_identity
from isosphere.runs import pack_tensors, read_tensors, tensor_identity


def get(cache, key, compute, digests=None):
    """What was kept, else computed and kept."""
    found = cache.find(key, digests=digests)
    if found is None:
        found = compute()
        cache.keep(key, found, digests=digests)
    return found


def image_digests(images):
    made = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images]
    return torch.from_numpy(np.frombuffer(b"".join(made), np.int64).reshape(-1, 2).copy())


def asker(cache, **key):
    """The tensors of a key, and how often they were computed."""
    made = []

    def compute():
        made.append(1)
        return {"b": torch.randn(3, 4), "a": torch.randn(5, dtype=torch.float64)}

    return lambda **more: (get(cache, {"weights": "w", **key, **more}, compute), len(made))


def test_what_was_computed_is_read_to_the_bit(tmp_path):
    first, _ = asker(FeatureCache(tmp_path / "deep" / "features"))()
    cache = FeatureCache(tmp_path / "deep" / "features")
    again, computed = asker(cache)()
    assert computed == 0
    assert (cache.hits, cache.misses) == (1, 0)
    assert set(again) == set(first)
    assert all(torch.equal(again[k], first[k]) and again[k].dtype == first[k].dtype for k in first)
    again["a"] += 1  # what is read may be written to
    assert torch.equal(asker(cache)()[0]["a"], first["a"])


@pytest.mark.parametrize("change", [{"weights": "v"}, {"images": "i"}, {"size": 33}])
def test_another_key_is_computed_anew(tmp_path, change):
    ask = asker(FeatureCache(tmp_path), images="j", size=32)
    assert ask()[1] == 1
    assert ask(**change)[1] == 2
    assert ask()[1] == ask(**change)[1] == 2


def test_another_version_is_computed_anew(tmp_path, monkeypatch):
    ask = asker(FeatureCache(tmp_path))
    ask()
    monkeypatch.setitem(cache_module._VERSIONS, "isosphere", "99")
    assert ask()[1] == 2


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}", None])
def test_damaged_files_are_computed_anew(tmp_path, damage):
    ask = asker(FeatureCache(tmp_path))
    ask()
    (file,) = tmp_path.glob("*")
    file.write_bytes(file.read_bytes()[:-5] if damage is None else damage)
    assert ask()[1] == 2
    assert ask()[1] == 2


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    ask = asker(FeatureCache(tmp_path))
    ask()
    (file,) = tmp_path.glob("*")
    file.unlink()
    os.mkfifo(file)
    assert ask()[1] == 2
    assert file.is_file()


def test_a_file_of_another_key_is_not_taken_for_this_one(tmp_path):
    ask = asker(FeatureCache(tmp_path), size=1)
    one, _ = ask()
    (file,) = tmp_path.glob("*")
    ask(size=2)
    other = next(f for f in tmp_path.glob("*") if f != file)
    other.write_bytes(file.read_bytes())
    assert not torch.equal(ask(size=2)[0]["a"], one["a"])


def test_the_longest_unused_make_room(tmp_path):
    ask = asker(FeatureCache(tmp_path))
    ask(size=1)
    (file,) = tmp_path.glob("*")
    cache = FeatureCache(tmp_path, limit_bytes=2 * file.stat().st_size + 10)
    ask = asker(cache)
    ask(size=2)
    for position, kept in enumerate(sorted(tmp_path.glob("*"), key=lambda f: f.stat().st_mtime_ns)):
        os.utime(kept, (position, position))
    ask(size=1)  # now the younger
    ask(size=3)
    assert len(list(tmp_path.glob("*"))) == 2
    asked = cache.misses
    ask(size=1)
    ask(size=3)
    assert cache.misses == asked
    ask(size=2)
    assert cache.misses == asked + 1
    nothing = FeatureCache(tmp_path / "none", limit_bytes=10)
    asker(nothing)()
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_to_costs_time_alone(tmp_path):
    (tmp_path / "features").write_text("in the way")
    ask = asker(FeatureCache(tmp_path / "features"))
    assert ask()[1] == 1
    assert ask()[1] == 2


def test_other_weights_are_forgotten(tmp_path):
    cache = FeatureCache(tmp_path)
    for weights in ("a", "b", "c"):
        asker(cache)(weights=weights)
    cache.forget_others(["a", "c"])
    assert sorted(f.name[0] for f in tmp_path.glob("*")) == ["a", "c"]


def test_identities_see_every_bit_and_name():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    first = weights_identity(net)
    assert weights_identity(net) == first
    assert weights_identity(net, "size 32") != first
    buffer = net[1].running_mean
    assert isinstance(buffer, torch.Tensor)
    buffer[1] += 1e-7
    assert weights_identity(net) != first
    x = torch.arange(6, dtype=torch.uint8)
    assert tensor_identity(x) != tensor_identity(x.view(2, 3))
    assert tensor_identity(x.view(2, 3).T) == tensor_identity(x.view(2, 3).T.contiguous())
    assert tensor_identity(x.int()) != tensor_identity(x)
    assert tensor_identity(torch.empty(0, 3)) != tensor_identity(torch.empty(0, 4))
    tensor_identity(torch.tensor(1.0))


def test_what_is_not_the_caches_own_is_neither_read_nor_removed(tmp_path):
    for name in ("model.safetensors", "w-old-all.safetensors", f"v-{'0' * 16}-all.safetensors.bak"):
        (tmp_path / name).write_bytes(b"precious")
    link = tmp_path / f"v-{'0' * 16}-all.safetensors"
    link.symlink_to(tmp_path / "model.safetensors")
    before = sorted(tmp_path.iterdir())
    cache = FeatureCache(tmp_path, limit_bytes=1200)
    for weights in ("w", "v"):
        cache.keep(
            {**KEY, "weights": weights}, {"x": torch.zeros(200)}
        )  # the second takes the place of the first
    assert len(set(tmp_path.iterdir()) - set(before)) == 1
    cache.forget_others([])
    assert sorted(tmp_path.iterdir()) == before


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="limit_bytes"):
        FeatureCache(tmp_path, limit_bytes=-1)


KEY = {"weights": "w", "kind": "centre"}


def pictures(n, seed=0):
    return torch.randint(
        0, 256, (n, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def describe(x):
    return {"backbone/0": x.flatten(1).float(), "head/0": x.flatten(1)[:, :2].double()}


class Gatherer:
    def __init__(self, folder):
        self.cache, self.computed = FeatureCache(folder), []

    def __call__(self, x, **key):
        def compute(rows):
            self.computed += rows.tolist()
            return describe(x[rows])

        return self.cache.gather({**KEY, **key}, image_digests(x), compute)


def test_rows_of_single_images_are_had_from_any_set_that_holds_them(tmp_path):
    x = pictures(12)
    get(FeatureCache(tmp_path), KEY, lambda: describe(x[3:8]), digests=image_digests(x[3:8]))
    ask = Gatherer(tmp_path)
    chosen = x[[7, 0, 3, 3, 11, 5]]  # an image may come twice
    found = ask(chosen)
    assert ask.computed == [1, 4]
    assert all(torch.equal(found[name], value) for name, value in describe(chosen).items())
    again = Gatherer(tmp_path)
    assert torch.equal(again(x[[11, 4, 0]])["head/0"], describe(x[[11, 4, 0]])["head/0"])
    assert again.computed == []
    assert (again.cache.hits, again.cache.misses) == (1, 0)
    assert again(x, weights="v")["backbone/0"].shape == (12, 48)
    assert again(x, kind="tokens")["backbone/0"].shape == (12, 48)
    assert len(again.computed) == 24  # of other weights, and of another kind, nothing is taken
    assert again(x[:0])["head/0"].shape == (0, 2)


def test_it_is_known_which_images_have_no_rows_yet(tmp_path):
    x = pictures(8)
    ask = Gatherer(tmp_path)
    ask(x[2:5])
    assert ask.cache.missing(KEY, image_digests(x)).tolist() == [0, 1, 5, 6, 7]
    assert ask.cache.missing({**KEY, "kind": "tokens"}, image_digests(x)).tolist() == list(range(8))
    ask(x)
    assert FeatureCache(tmp_path).missing(KEY, image_digests(x)).tolist() == []


def test_a_set_is_read_whole_only_under_its_own_images_and_order(tmp_path):
    x = pictures(6)
    cache = FeatureCache(tmp_path)
    for rows, misses in ((slice(None), 1), (slice(None), 1), (slice(0, 5), 2)):
        found = get(cache, KEY, lambda r=rows: describe(x[r]), digests=image_digests(x[rows]))
        assert set(found) == {"backbone/0", "head/0"}
        assert cache.misses == misses
    get(cache, KEY, lambda: describe(x.flip(0)), digests=image_digests(x.flip(0)))
    assert cache.misses == 3


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}"])
def test_damaged_sets_give_no_rows(tmp_path, damage):
    x = pictures(4)
    Gatherer(tmp_path)(x)
    (file,) = tmp_path.glob("*")
    file.write_bytes(damage)
    ask = Gatherer(tmp_path)
    assert torch.equal(ask(x)["head/0"], describe(x)["head/0"])
    assert ask.computed == [0, 1, 2, 3]


# --- what somebody else has written -------------------------------------------------------------------------------


def kept_set(folder, x):
    """A set in the cache, its file, and how to ask for it with a check."""
    cache = FeatureCache(folder)
    cache.keep(KEY, describe(x), digests=image_digests(x))
    (file,) = folder.glob("*.safetensors")

    def ask():
        return cache.find(KEY, digests=image_digests(x), check=lambda rows: describe(x[rows]))

    return cache, file, ask


def rewritten(file, change):
    """The file with other tensors, its digest made to fit, as somebody who wants to would."""
    tensors, about = read_tensors(file)
    file.write_bytes(pack_tensors(change(tensors), about))


def test_a_flipped_bit_is_computed_anew(tmp_path):
    cache, file, ask = kept_set(tmp_path, pictures(6))
    assert ask() is not None
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert ask() is None
    assert (cache.wrong, file.exists()) == (1, False)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"head/0": t["head/0"].flip(0)},
        lambda t: t | {"backbone/0": torch.randn_like(t["backbone/0"])},
        lambda t: t | {"backbone/0": t["backbone/0"][:, :5].contiguous()},
        lambda t: {name: x for name, x in t.items() if name != "head/0"},
        lambda t: {name: x[:3] for name, x in t.items()},
        lambda t: t | {"positions": torch.tensor([5, 4, 3, 2, 1, 10**9])},
        lambda t: t | {"positions": torch.zeros(6, dtype=torch.int64)},
        lambda t: t | {"head/0": torch.full_like(t["head/0"], float("nan"))},
    ],
    ids=["rows", "noise", "narrow", "a table less", "rows less", "beyond", "the same", "not a number"],
)
def test_rows_that_are_not_what_is_computed_are_not_taken_whatever_the_digest(tmp_path, change):
    x = pictures(6)
    _, file, ask = kept_set(tmp_path, x)
    rewritten(file, change)
    assert ask() is None
    assert not file.exists()
    _, file, _ = kept_set(tmp_path, x)
    rewritten(file, change)
    cache = FeatureCache(tmp_path)

    def compute(rows):
        return describe(x[rows])

    found = cache.gather(KEY, image_digests(x), compute, check=compute)
    assert all(torch.equal(found[name], value) for name, value in describe(x).items())


def test_rounding_is_no_difference(tmp_path):
    _, file, ask = kept_set(tmp_path, pictures(6))
    rewritten(file, lambda t: t | {"backbone/0": t["backbone/0"] * (1 + 1e-4)})
    assert ask() is not None


def test_what_is_not_finite_is_not_kept(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.keep(KEY, {"a": torch.tensor([1.0, float("inf")])})
    assert not list(tmp_path.iterdir())


def test_of_many_small_sets_few_files_remain(tmp_path):
    """One image more with each search: each row is found, without a file for every search."""
    x, ask = pictures(70), Gatherer(tmp_path)
    for i in range(70):
        ask(x[i : i + 1])
    assert ask.computed == [0] * 70
    assert len(list(tmp_path.iterdir())) <= 7
    again = Gatherer(tmp_path)
    assert torch.equal(ask(x)["head/0"], describe(x)["head/0"])
    assert torch.equal(again(x.flip(0))["head/0"], describe(x.flip(0))["head/0"])
    assert again.computed == [] == ask.computed[70:]
