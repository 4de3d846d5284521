"""New images for a run: told from those so far, compared, appended; old vectors stay equal to the bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import isosphere
from isosphere.data import WHOLE, open_source
from isosphere.deploy import open_index, rows_seen
from isosphere.errors import RunError, UsageError
from isosphere.workflows import Collection, collection_of, prepare_update, training_images

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        torch.save(timm.create_model(NAME, num_classes=10).state_dict(), file)
    return file


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSPHERE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def paint(folder: Path, numbers, *, foreign: bool = False, side: tuple[int, int] = (40, 28)) -> Path:
    """Smooth pictures in warm colours, wider than high; foreign ones are noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        rng = np.random.default_rng(1000 * foreign + i)
        small = rng.integers(0, 120, (5, 7, 3), dtype=np.uint8) + np.array([120, 40, 0], np.uint8)
        picture = Image.fromarray(small).resize(side, Image.Resampling.BICUBIC)
        if foreign:
            picture = Image.fromarray(rng.integers(0, 256, (*side[::-1], 3), dtype=np.uint8))
        picture.save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, weights):
    """A run that was adapted to 40 pictures, and these."""
    root = tmp_path_factory.mktemp("update")
    given = {"encoder": NAME, "init": weights, "image_size": 32, "device": "cpu", "progress": False}
    isosphere.adapt(paint(root / "old", range(40)), root / "run", **given)
    return root


@pytest.fixture
def own(adapted, tmp_path):
    """A copy of run and pictures that a test may change."""
    for name in ("run", "old"):
        shutil.copytree(adapted / name, tmp_path / name)
    for name in ("images.json", "config.yaml"):
        known = tmp_path / "run" / name
        known.write_text(known.read_text().replace(str(adapted), str(tmp_path)))
    return tmp_path


def rows(index):
    return dict(zip(index.paths, index.unit.numpy(), strict=True))


@pytest.fixture
def passed(monkeypatch):
    """Numbers of images that pass through the network."""
    from isosphere.deploy import _embedder

    counts = []

    def counted(source, positions, *args, **options):
        counts.append(len(positions))
        return rows_seen(source, positions, *args, **options)

    monkeypatch.setattr(_embedder, "rows_seen", counted)
    return counts


def test_new_images_are_appended_and_old_vectors_stay_to_the_bit(own, passed):
    run = isosphere.load(own / "run", device="cpu")
    before = rows(run.index(own / "old"))
    del passed[:]
    new = paint(own / "new", range(100, 120))
    made = prepare_update(run, new)
    assert [len(names) for names in (made.new, made.changed, made.removed)] == [20, 0, 0]
    assert "40 as before, 20 new" in made.facts["images"]
    made.embed()
    assert sum(passed) == 20  # nothing but what is new
    found = made.finish()
    assert (len(found.index), found.kept, len(found.new)) == (60, 40, 20)
    after = rows(found.index)
    for path, row in before.items():
        assert np.array_equal(after[f"old/{path}"], row), path
    alone = run.fitted(WHOLE).embed(str(new))
    assert np.allclose([after[f"new/{i:03d}.png"] for i in range(100, 120)], alone, atol=1e-5)

    # The union is what is looked at where nothing is named, and all of it is there.
    used, source, kept = collection_of(isosphere.load(own / "run", device="cpu"))
    assert (len(source), len(kept)) == (60, 60)
    del passed[:]
    again = used.index(source)
    assert (again.added, again.reused, passed) == (0, 60, [])
    assert used.search([new / "105.png"], source, k=1)[0][0].path == "new/105.png"
    assert prepare_update(own / "run").unchanged
    assert prepare_update(own / "run", new).unchanged


def test_changed_and_removed_images_of_a_folder_that_grows(own, passed):
    run, old = isosphere.load(own / "run", device="cpu"), own / "old"
    first = isosphere.update(run, progress=False)  # records the 40
    before = rows(first.index)
    assert (first.kept, first.new, first.test) == (40, [], None)
    paint(old, range(50, 60))
    paint(old, [3], foreign=True)
    (old / "007.png").unlink()
    (old / "008.png").unlink()
    del passed[:]
    found = isosphere.update(run, old, progress=False)
    assert sum(passed) == 11
    assert found.new == [f"{i:03d}.png" for i in range(50, 60)]
    assert (found.changed, found.removed) == (["003.png"], ["007.png", "008.png"])
    after = rows(found.index)
    assert len(after) == 48
    assert all(
        np.array_equal(after[path], before[path]) for path in before if path in after and path != "003.png"
    )
    assert not np.allclose(after["003.png"], before["003.png"], atol=1e-2)
    assert found.foreign[0].path == "003.png"
    # They stay marked, and count as new when they are back.
    kept = Collection.read(run.folder)
    assert [p for p, gone in zip(kept.listed.paths, kept.removed, strict=True) if gone] == [
        "007.png",
        "008.png",
    ]
    assert kept.updates[-1]["removed"] == ["007.png", "008.png"]
    assert (len(kept), len(kept.updates)) == (48, 2)
    paint(old, [7])
    back = isosphere.update(run, progress=False)
    assert (back.new, back.removed) == (["007.png"], [])
    assert np.allclose(rows(back.index)["007.png"], before["007.png"], atol=1e-6)
    kept = Collection.read(run.folder)
    assert [p for p, gone in zip(kept.listed.paths, kept.removed, strict=True) if gone] == ["008.png"]


def test_what_has_come_into_a_folder_that_an_index_knows_is_new_at_the_first_update(own):
    run = isosphere.load(own / "run", device="cpu")
    run.index(own / "old")
    paint(own / "old", range(50, 55))
    found = isosphere.update(run, own / "old", progress=False)
    assert (found.kept, len(found.new)) == (40, 5)


def test_without_a_record_it_is_said_that_new_cannot_be_told(own):
    paint(own / "old", range(50, 55))
    made = prepare_update(own / "run", own / "old")
    assert (made.new, len(made.remarks)) == ([], 1)
    assert "cannot be told" in made.remarks[0]


def test_foreign_images_are_found_and_alike_ones_are_not(own):
    run = isosphere.load(own / "run", device="cpu")
    alike = isosphere.update(run, paint(own / "alike", range(200, 240)), progress=False)
    assert alike.test.p_value > 0.05
    assert alike.far.low < 0.05 + 0.1
    assert "no difference can be told" in alike.verdict["compared"]
    foreign = isosphere.update(run, paint(own / "noise", range(30), foreign=True), progress=False)
    assert foreign.test.p_value <= 0.002
    assert foreign.far.value > 0.9
    assert "not drawn from" in foreign.verdict["compared"]
    assert foreign.test.counts == (30, 80)
    distances = [each.distance for each in foreign.foreign]
    assert distances == sorted(distances, reverse=True)
    # By brute force: the distance to the 10th nearest of those so far.
    unit = rows(foreign.index)
    x = np.stack([unit[p] for p in unit if not p.startswith("noise/")])
    first = foreign.foreign[0]
    expected = np.sort(np.linalg.norm(x - unit[first.path], axis=1))[9]
    assert first.distance == pytest.approx(expected, abs=1e-4)
    assert foreign.as_dict()["foreign"][0]["path"] == first.path


def test_threshold_and_classifier_are_frozen_and_copies_are_told(own):
    run = isosphere.load(own / "run", device="cpu")
    (own / "new").mkdir()
    shutil.copy(own / "old" / "004.png", own / "new" / "again.png")
    paint(own / "new", [300, 301])
    first = isosphere.update(run, own / "new", progress=False)
    assert first.copies[0][:2] == ("new/again.png", "old/004.png")
    assert len(first.copies) == 1
    chosen = first.collection.thresholds
    assert set(chosen) >= {first.collection.copies, run.search_layer}
    second = isosphere.update(run, paint(own / "more", range(30), foreign=True), progress=False)
    assert second.collection.thresholds == chosen
    used, source, kept = collection_of(run)
    found = used.dedup(source, threshold=kept.thresholds[kept.copies], layer=kept.copies)
    assert [sorted(group.paths) for group in found] == [["new/again.png", "old/004.png"]]


def test_an_interrupted_update_goes_on_and_has_recorded_nothing(own, monkeypatch, passed):
    from isosphere.deploy import _embed

    run, new = isosphere.load(own / "run", device="cpu"), paint(own / "new", range(100, 130))
    run.index(own / "old")
    monkeypatch.setattr(_embed, "block_length", lambda *args: 10)
    made = prepare_update(run, new)

    def stop(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.embed(stop)
    kept = Collection.read(run.folder)
    assert (len(kept), kept.parts) == (40, (str(own / "old"),))  # those so far, and not one of the new
    del passed[:]
    again = prepare_update(isosphere.load(own / "run", device="cpu"), new)
    assert len(again.new) == 30
    again.embed()
    assert sum(passed) == 10  # of the others features were kept
    assert len(again.finish().index) == 60 + 10


def test_a_killed_update_of_a_growing_folder_still_knows_what_is_new(own, monkeypatch):
    """The vectors are there when the record is not: the next call has to know which images are the new ones."""
    run, old = isosphere.load(own / "run", device="cpu"), own / "old"
    run.index(old)
    paint(old, range(50, 60))
    made = prepare_update(run, old)
    made.embed()
    del made  # killed before it was recorded
    again = prepare_update(isosphere.load(own / "run", device="cpu"), old)
    assert len(again.new) == 10
    assert len(again.todo) == 0
    assert again.finish().test is not None


def test_two_at_once_lose_nothing(own):
    run = isosphere.load(own / "run", device="cpu")
    isosphere.update(run, progress=False)
    a, b = (
        prepare_update(run, paint(own / name, range(at, at + 5))) for name, at in (("a", 100), ("b", 200))
    )
    for each in (a, b):
        each.embed()
    a.finish()
    with pytest.raises(RunError, match="recorded meanwhile"):
        b.finish()
    assert len(isosphere.update(run, own / "b", progress=False).index) == 50


def test_another_network_is_refused_and_nothing_is_lost(own, weights):
    isosphere.update(own / "run", progress=False)
    file = own / "run" / "collection.safetensors"
    before = file.read_bytes()
    given = {"encoder": NAME, "init": weights, "image_size": 32, "device": "cpu", "progress": False}
    isosphere.adapt(paint(own / "other", range(20), foreign=True), own / "run", overwrite=True, **given)
    new = paint(own / "new", range(100, 105))
    with pytest.raises(UsageError, match=r"another network, metric.*restart=True"):
        isosphere.update(own / "run", new, progress=False)
    with pytest.raises(UsageError, match="another network"):
        collection_of(isosphere.load(own / "run", device="cpu"))
    assert file.read_bytes() == before
    found = isosphere.update(own / "run", new, restart=True, progress=False)
    assert (found.kept, len(found.new)) == (40, 5)


def test_places_are_looked_at_before_any_work(own):
    run = isosphere.load(own / "run", device="cpu")
    isosphere.update(
        run, paint(own / "old" / "within", range(3)), progress=False
    )  # lies in a part: it is looked through
    assert collection_of(run)[2].parts == (str(own / "old"),)
    with pytest.raises(UsageError, match="belongs to the collection already"):
        prepare_update(run, own)
    with pytest.raises(UsageError, match="no file or folder"):
        prepare_update(run, own / "nowhere")
    (own / "old").rename(own / "moved")
    with pytest.raises(UsageError, match=r"where 43 images of the collection were.*old='DATA'|old="):
        isosphere.update(run, progress=False)
    found = isosphere.update(run, old=own / "moved", progress=False)
    assert (found.kept, found.new, found.removed) == (43, [], [])


def test_a_damaged_record_is_named(own):
    isosphere.update(own / "run", progress=False)
    file = own / "run" / "collection.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RunError, match=r"collection\.safetensors"):
        isosphere.update(own / "run", progress=False)


def test_a_set_that_is_added_leaves_the_index_of_the_others_alone(own):
    run = isosphere.load(own / "run", device="cpu").fitted(WHOLE)
    first = open_index(run, str(own / "old"), layer="adapted")
    paint(own / "new", range(100, 110))
    before = first.saved.read_bytes()
    both = open_index(run, f"{own / 'old'} + {own / 'new'}", layer="adapted")
    assert (both.added, both.reused, both.removed) == (10, 40, 0)
    assert np.array_equal(both.unit[:40], first.unit)
    assert first.saved.read_bytes() == before
    assert both.positions.tolist() == list(range(50))
    assert both.paths == open_source(f"{own / 'old'} + {own / 'new'}").paths


def test_images_of_a_training_are_found_again(own):
    assert training_images(isosphere.load(own / "run", device="cpu")) == str(own / "old")
    (own / "old").rename(own / "gone")
    with pytest.raises(UsageError, match="does not know where the images so far are"):
        prepare_update(own / "run", paint(own / "new", range(3)))


def test_an_adaptation_is_fitted_anew_beside_the_run_which_stays_as_it_is(own, passed):
    run = isosphere.load(own / "run", device="cpu")
    isosphere.update(run, paint(own / "new", range(100, 140), foreign=True), progress=False)
    files = {file.name: file.read_bytes() for file in (own / "run").iterdir() if file.is_file()}
    del passed[:]
    made = isosphere.refit(run, progress=False)
    assert passed == []  # the same weights: their features are kept
    assert made.run.folder.path == own / "run@2"
    assert made.run.weights == run.weights
    assert made.run.identity != run.identity
    assert made.run.adaptation.images == 80
    assert {f.name: f.read_bytes() for f in (own / "run").iterdir() if f.is_file()} == files
    # Neighbours kept, by brute force.
    used, source, _ = collection_of(run)
    new, again, kept = collection_of(made.run)
    assert (len(again), len(kept), kept.thresholds) == (80, 80, {})
    a, b = used.index(source).unit, new.index(again).unit
    near = [(x @ x.T - 2 * torch.eye(80)).topk(20).indices.tolist() for x in (a, b)]
    share = np.mean([len(set(i) & set(j)) / 20 for i, j in zip(*near, strict=True)])
    assert made.neighbours.value == pytest.approx(share, abs=1e-3)
    assert (made.again, made.accuracy) == (0, None)
    later = isosphere.refit(made.run, progress=False)
    assert later.run.folder.path == own / "run@3"
    assert later.neighbours.value == 1.0  # of the same images


def test_a_version_that_was_not_finished_is_made_again(own, monkeypatch):
    from isosphere.workflows import _refit

    run = isosphere.load(own / "run", device="cpu")
    with pytest.raises(UsageError, match="no record of its images"):
        isosphere.refit(run, progress=False)
    isosphere.update(run, progress=False)
    with pytest.raises(UsageError, match="not trained"):
        isosphere.refit(run, epochs=3, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(_refit, "_compared", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            isosphere.refit(run, progress=False)
    assert not (own / "run@2" / "version.json").exists()
    assert isosphere.refit(run, progress=False).run.folder.path == own / "run@2"
    assert sorted(p.name for p in own.iterdir()) == ["old", "run", "run@2"]
