"""What one command has computed of an image, the others do not compute again; and --no-cache."""

import json
from pathlib import Path

import numpy as np
import pytest

import isosphere
import isosphere.deploy._embedder as embedder_module
import isosphere.workflows._features as features_module


@pytest.fixture
def computed(monkeypatch):
    """How many images went through an encoder, pass by pass."""
    calls = []
    for module in (embedder_module, features_module):

        def look_through(batches, looks, *, own=module.look_through, **options):
            seen = []

            def counted():
                for pixels, index in batches:
                    seen.append(len(pixels))
                    yield pixels, index

            found = own(counted(), looks, **options)
            if sum(seen):
                calls.append(sum(seen))
            return found

        monkeypatch.setattr(module, "look_through", look_through)
    return calls


def arrays(path):
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


@pytest.fixture
def trained(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 0, done.err
    return "r"


def test_after_an_evaluation_no_command_encodes_the_images_again(run, trained, classes, computed):
    assert run("evaluate", trained, classes, "--tasks", "knn").code == 0
    computed.clear()
    query = classes / "red" / "11.png"
    for words in (
        ("embed", trained, classes, "--out", "e.npz"),
        ("dedup", trained, classes, "--threshold", 0.99),
        ("report", trained),
    ):
        done = run(*words)
        assert (done.code, done.err) == (0, ""), words
    assert computed == []
    assert run("search", trained, query, "--in", classes).code == 0
    assert computed == [1]  # the query


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_second_embedding_is_the_same_to_the_bit_and_without_the_encoder(
    run, trained, classes, computed, ending
):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    assert run("embed", trained, classes, "--out", f"a.{ending}").code == 0
    assert computed == [60]
    assert run("embed", trained, classes, "--out", f"b.{ending}", "--layer", "backbone").code == 0
    assert computed == [60]
    assert Path(f"a.{ending}").read_bytes() == Path(f"b.{ending}").read_bytes()
    assert run("embed", trained, classes, "--out", f"h.{ending}", "--layer", "head").code == 0
    assert computed == [60]  # both outputs are kept


def test_without_the_cache_everything_is_computed_and_nothing_kept(run, trained, classes, computed):
    run("embed", trained, classes, "--out", "a.npz", "--no-cache")
    run("dedup", trained, classes, "--no-cache", "--threshold", 0.99)
    found = run("search", trained, classes / "red" / "11.png", "--in", classes, "--json", "--no-cache")
    run("report", trained, "--no-cache")
    assert computed == [60, 60, 1, 60, 60]
    assert not (Path(trained) / "features").exists()
    assert not (Path(trained) / "search").exists()
    run("embed", trained, classes, "--out", "b.npz")
    assert all(np.array_equal(x, arrays("b.npz")[name]) for name, x in arrays("a.npz").items())
    kept = run("search", trained, classes / "red" / "11.png", "--in", classes, "--json")
    assert json.loads(found.out) == json.loads(kept.out)


def test_from_python_the_cache_can_be_left_out(trained, classes, computed):
    first = isosphere.load(trained).embed(str(classes))
    assert np.array_equal(isosphere.load(trained).embed(str(classes)), first)
    assert computed == [60]
    assert np.array_equal(isosphere.load(trained, cache=False).embed(str(classes)), first)
    assert computed == [60, 60]


def test_evaluation_does_not_depend_on_what_was_embedded_before(run, trained, classes, computed):
    """Rows from other batches agree to rounding only: figures come from the evaluation's own."""
    run("evaluate", trained, classes, "--tasks", "knn,retrieval", "--no-cache")
    fresh = json.loads(Path("r/evaluation.json").read_text())
    run("embed", trained, classes, "--out", "a.npz")
    computed.clear()
    run("evaluate", trained, classes, "--tasks", "knn,retrieval")
    assert len(computed) == 2  # training and test images, once
    assert json.loads(Path("r/evaluation.json").read_text()) == fresh
