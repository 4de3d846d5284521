"""Commands on images behind an address, of a web server that asks for a password and a signature."""

import pytest

from isosphere import addresses
from isosphere.workflows._splits import choose_ood
from tests.data.test_shards import write_shards
from tests.web import serving

pytest.importorskip("aiohttp", reason="aiohttp, by which addresses of web servers are read, is not installed")

PASSWORD, SIGNATURE = "me:pa55word", "sig=s1gned"


def test_what_an_address_hides_is_neither_printed_nor_stored(run, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_shards(tmp_path / "shards", [12, 12, 12, 12])
    with serving(tmp_path / "shards", password=PASSWORD, signature=SIGNATURE) as web:
        shown = f"{web.address}/train-{{000..003}}.tar"
        typed = shown.replace("://", f"://{PASSWORD}@") + f"?{SIGNATURE}"
        settings = ["--epochs", 1, "--batch-size", 8, "--image-size", 16, "--set", "train.device=cpu"]
        said = [
            run("train", typed, "--out", "r", *settings),
            run("train", typed, "--out", "r", *settings[2:], "--epochs", 2, "--resume"),
            run("evaluate", "r", typed, "--tasks", "knn", "--no-baselines"),
            run("embed", "r", typed, "--out", "r.npz"),
            run("search", "r", typed.replace("{000..003}", "000"), "--in", typed),
        ]
        assert [each.code for each in said] == [0] * 5, [each.err for each in said]
        assert f"password or signature of {shown} is not kept" in said[0].out
        assert f"isosphere train '{shown}' --out r --resume" in said[0].out
        said += [run("train", typed, "--sed", 3), run("train", f"{typed[:-1]}x", "--out", "x")]
        assert [each.code for each in said[5:]] == [2, 1]
        assert "access is refused (403 forbidden). Type the whole address" in said[-1].err
        (tmp_path / "c.yaml").write_text(f"data: {{source: '{typed}'}}\n")
        said.append(run("train", "--config", tmp_path / "c.yaml", "--out", "y", *settings))
        assert said[-1].code == 0
        (tmp_path / "c.yaml").unlink()
        monkeypatch.setattr(addresses, "_known", {})  # another process, on another day
        assert "access is refused (401" in run("outliers", "r").err
    hidden = ["pa55word", "s1gned"]
    for word in hidden:
        assert not [each for each in said if word in each.out + each.err]
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) > 10
        assert not [file for file in files if word.encode() in file.read_bytes()]


def test_names_of_sets_hide_it_too(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", [3, 3])
    with serving(tmp_path / "shards", password=PASSWORD) as web:
        typed = [f"{web.address}/train-00{k}.tar".replace("://", f"://{PASSWORD}@") for k in (0, 1)]
        assert list(choose_ood(typed)) == ["train-000.tar", "train-001.tar"]
        assert list(choose_ood(typed[0])) == ["train-000.tar"]
