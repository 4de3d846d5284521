"""``isosphere bundle`` and ``isosphere serve`` as they are typed."""

import json

import pytest


@pytest.fixture
def trained(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 0, done.err
    return "r"


def test_a_run_that_was_trained_is_bundled_and_checked(run, trained, classes):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    done = run("bundle", trained, "--out", "served")
    assert done.code == 0, done.err
    assert "60 images" in done.out
    assert "reference vectors, largest difference" in done.out
    assert "isosphere serve served --check" in done.out
    with open("served/bundle.json") as file:  # noqa: PTH123
        about = json.load(file)
    assert (about["layer"], about["dim"]) == ("wccn", 256)
    checked = run("serve", "served", "--check")
    assert checked.code == 0, checked.err
    assert "10 reference vectors reproduced" in checked.out
    assert "ms (p50)" in checked.out
    again = run("bundle", trained, "--out", "served")
    assert (again.code, "--overwrite" in again.err) == (2, True)
    with open("served/encoder.onnx", "ab") as file:  # noqa: PTH123
        file.truncate(1000)
    cut = run("serve", "served", "--check")
    assert cut.code == 1
    assert "served/encoder.onnx is cut short or replaced: 1,000 bytes, expected" in cut.err


def test_what_is_no_bundle_is_said(run, tmp_path, monkeypatch):
    import isosphere.deploy._serve as serving

    (tmp_path / "work" / "empty").mkdir()
    if serving.find_spec("onnxruntime") is None:
        assert "pip install onnxruntime" in run("serve", "empty").err
        return
    none = run("serve", "empty")
    assert none.code == 1
    assert "empty is no bundle, or was not written to its end" in none.err
