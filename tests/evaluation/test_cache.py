"""Features kept on disk: the same bits, nothing stale, never more than the limit."""

import os

import pytest
import torch
from torch import nn

from isosphere.evaluation import FeatureCache
from isosphere.evaluation.cache import tensor_identity, weights_identity


def asker(cache, **key):
    """The tensors of a key, and how often they were computed."""
    made = []

    def compute():
        made.append(1)
        return {"b": torch.randn(3, 4), "a": torch.randn(5, dtype=torch.float64)}

    return lambda **more: (cache.get({"weights": "w", **key, **more}, compute), len(made))


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
    monkeypatch.setattr("isosphere.evaluation.cache.__version__", "99")
    assert ask()[1] == 2


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}", None])
def test_damaged_files_are_computed_anew(tmp_path, damage):
    ask = asker(FeatureCache(tmp_path))
    ask()
    (file,) = tmp_path.glob("*")
    file.write_bytes(file.read_bytes()[:-5] if damage is None else damage)
    assert ask()[1] == 2
    assert ask()[1] == 2


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


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="limit_bytes"):
        FeatureCache(tmp_path, limit_bytes=-1)
