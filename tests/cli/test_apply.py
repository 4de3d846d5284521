"""``isosphere embed``, ``search``, ``dedup`` and ``export`` as they are typed."""

import contextlib
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.errors import shell


@pytest.fixture
def trained(run, classes, quick):
    done = run("train", classes, "--out", "r", *quick)
    assert done.code == 0, done.err
    return "r"


class Pictures(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.alts, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            self.alts.append(given["alt"])
        self.sources += [value for key, value in attrs if key in ("src", "href")]


def test_embed(run, trained, classes):
    done = run("embed", trained, classes, "--out", "e.npz", "--layer", "head")
    assert (done.code, done.err) == (0, "")
    assert "60 of 16 dimensions (head)" in done.out
    with np.load("e.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].shape == (60, 16)
        assert arrays["class_names"].tolist() == ["blue", "red"]
        named = arrays["embeddings"]
    own = run("embed", trained, "--out", "own.npz", "--layer", "head")
    assert (own.code, own.err) == (0, "")
    with np.load("own.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["embeddings"], named)
    again = run("embed", trained, classes, "--out", "e.npz")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run("embed", trained, classes, "--out", "e.npz", "--overwrite").code == 0
    assert run("embed", trained, classes, "--out", "e.txt").code == 2
    wrong = run("embed", trained, classes, "--out", "f.npz", "--layer", "neck")
    assert wrong.code == 2
    assert "expected adapted, backbone, wccn or head" in wrong.err


def test_white_of_deep_images_is_found_and_said_by_a_run_of_eight_bits(run, trained, classes, tmp_path):
    deep, plain = tmp_path / "deep", tmp_path / "plain"
    deep.mkdir()
    plain.mkdir()
    for k, file in enumerate(sorted(classes.rglob("*.png"))[:8]):
        levels = np.asarray(Image.open(file).convert("L"))
        Image.fromarray(levels).save(plain / f"{k}.png")
        Image.fromarray(np.rint(levels / 255 * 4095).astype(np.uint16)).save(deep / f"{k}.png")
    said = "is white (uint16 from"
    assert said in " ".join(run("embed", trained, deep, "--out", "deep.npz").out.split())
    assert said not in run("embed", trained, plain, "--out", "plain.npz").out
    with np.load("deep.npz") as a, np.load("plain.npz") as b:
        white = 4095 / 255 * max(np.asarray(Image.open(file)).max() for file in plain.iterdir())
        assert white > 1023, "12 bits are what the images have"
        assert np.allclose(a["embeddings"], b["embeddings"], atol=1e-5)
    for command in (("dedup", trained, deep), ("search", trained, deep / "1.png", "--in", deep)):
        assert said in " ".join(run(*command).out.split())


def test_wccn_is_learnt_at_the_end_and_used_by_search(run, trained, classes, quick):
    query = classes / "red" / "11.png"
    done = run("embed", trained, classes, "--out", "v.npz", "--layer", "wccn")
    assert (done.code, done.err) == (0, "")
    assert "60 of 256 dimensions (wccn)" in done.out
    found = {
        layer: json.loads(run("search", trained, query, "--in", classes, "--json", *layer).out)
        for layer in ((), ("--layer", "wccn"), ("--layer", "backbone"))
    }
    assert found[()]["layer"] == "wccn"
    assert found[()] == found["--layer", "wccn"]
    assert found["--layer", "backbone"]["matches"] != found[()]["matches"]

    older = run("embed", trained, classes, "--out", "o.npz", "--layer", "views")
    assert older.code == 0
    assert "60 of 256 dimensions (wccn)" in older.out
    assert "The layer views is called wccn now" in older.err
    assert "--layer wccn" in older.err

    metric = Path(trained) / "wccn.safetensors"
    kept = metric.read_bytes()
    metric.unlink()
    assert json.loads(run("search", trained, query, "--in", classes, "--json").out)["layer"] == "backbone"
    refused = run("embed", trained, classes, "--out", "w.npz", "--layer", "wccn")
    assert refused.code == 2
    assert "isosphere train DATA --out r --resume" in refused.err
    assert not Path("w.npz").exists()
    assert run("train", classes, "--out", "r", "--resume", *quick).code == 0
    assert metric.read_bytes() == kept


def test_search_in_text_json_and_pictures(run, trained, classes, tmp_path):
    query = classes / "red" / "11.png"
    done = run("search", trained, query, "--in", classes, "-k", 3)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "Like 11.png among 60 images (60 embedded now), by layer wccn"
    assert re.split(r"\s+", lines[2].strip())[1:] == ["1.0000", "itself", "red", "red/11.png"]
    assert len(lines) == 5
    result = json.loads(run("search", trained, query, "--in", classes, "--json", "--out", "s.html").out)
    assert result["images"] == 60
    assert result["matches"][0]["path"] == "red/11.png"
    assert [match["itself"] for match in result["matches"]] == [True, False, False, False, False]
    assert len(result["matches"]) == 5
    with open("s.html", encoding="utf-8") as file:  # noqa: PTH123
        page = Pictures(file.read())
    assert page.alts == ["11.png", *(m["path"] for m in result["matches"])]
    assert all(source.startswith("data:") for source in page.sources)
    blocked = run("search", trained, query, "--in", classes, "--json", "--engine", "blocked")
    assert json.loads(blocked.out) == result
    drawn = run("search", trained, query, "--in", classes, "--out", "s.png")
    assert "(as before)" in drawn.out
    with Image.open("s.png") as picture:
        assert picture.width > picture.height


def test_several_images_are_searched_for_at_once(run, trained, classes):
    pair = sorted(classes.glob("*/*.png"))[::40]
    alone = [json.loads(run("search", trained, query, "--in", classes, "--json").out) for query in pair]
    both = json.loads(run("search", trained, *pair, "--in", classes, "--json").out)
    found = [[[match["path"] for match in each["matches"]] for each in answers] for answers in (both, alone)]
    assert found[0] == found[1]
    assert [each["query"] for each in both] == [str(query) for query in pair]
    folder = json.loads(run("search", trained, classes, "--in", f"{classes}/*/*.png", "-k", 1, "--json").out)
    assert [each["query"] for each in folder] == [each["matches"][0]["path"] for each in folder]
    told = run("search", trained, *pair, "--in", classes, "--out", "s.html")
    assert told.code == 0, told.err
    assert all(f"Like {query.name} among 60 images" in told.out for query in pair)
    assert told.out.count("(as before)") == 1
    assert Path("s.html").read_text().count("query") >= 2


def test_search_refusals(run, trained, classes):
    Path("photo.heic").write_bytes(b"ftypheic")
    shutil.copytree(classes / "red", "red")
    for words, said in (
        (["absent.png", "--in", classes], "there is no picture absent.png to look for. Name image files"),
        ([classes / "red" / "1.png", "--in", "absent"], "no file or folder"),
        (["red/1.gif", "--in", classes], "Did you mean 'red/1.png'?"),
        (["photo.heic", "--in", classes], "photo.heic is an image of another format: .heic is"),
        (
            [classes / "red" / "1.png", "--in", "r"],
            f"r is a run, not images. Its images were {classes}: give these",
        ),
        (
            [classes, classes / "red" / "1.png"],
            f"Type: isosphere search r {classes}/red/1.png --in {classes}\n",
        ),
        ([classes / "red" / "1.png", "--in", classes, "--out", "a.gif"], r"ends in .html or .png"),
        ([classes / "red" / "1.png", "--in", classes, "--engine", "hnsw"], "expected auto, blocked or faiss"),
    ):
        done = run("search", trained, *words)
        assert done.code == 2
        assert said in done.err


def test_a_run_and_images_in_the_other_order_are_told_apart(run, trained, classes):
    query = f"{classes}/red/1.png"
    for name, words, right in (
        ("evaluate", [classes, "r"], f"r {classes}"),
        ("dedup", [classes, "r"], f"r {classes}"),
        ("embed", [classes, "r", "--out", "e.npz"], f"r {classes} --out e.npz"),
        ("search", [classes, query, "--in", "r"], f"r {query} --in {classes}"),
    ):
        done = run(name, *words)
        assert done.code == 2
        assert (
            f"r is a run, and {classes} is none: the run comes first. Type: isosphere {name} {right}\n"
            in done.err
        )
    assert "Type: isosphere export r --format timm\n" in run("export", "r").err
    assert f"Type: isosphere embed r {classes} --out embeddings.npz\n" in run("embed", "r", classes).err


def test_dedup_finds_copies(run, trained, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i in range(12):
        noise = np.random.default_rng(100 + i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    (folder / "<b>copy & co.png").write_bytes((folder / "3.png").read_bytes())
    done = run("dedup", trained, folder, "--threshold", "0.999999", "--json", "--out", "d.html")
    assert done.code == 0, done.err
    groups = json.loads(done.out)["groups"]
    assert [sorted(item["path"] for item in group) for group in groups] == [["3.png", "<b>copy & co.png"]]
    with open("d.html", encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert "<b>copy" not in text
    assert sorted(Pictures(text).alts) == ["3.png", "<b>copy & co.png"]
    text = run("dedup", trained, folder, "--threshold", "0.999999").out
    assert "1 group; 1 image repeats another." in text
    everything = run("dedup", trained, folder, "--threshold", "-0.9")
    assert "Type a higher --threshold" in everything.out
    assert run("dedup", trained, folder, "--threshold", "1.5").code == 2
    (folder / "<b>copy & co.png").unlink()
    nothing = " ".join(run("dedup", trained, folder, "--threshold", "1").out.split())
    assert "0 groups; 0 images repeat another. The nearest pair, " in nothing
    typed = shlex.split(nothing.partition(": isosphere ")[2])[:5]
    assert "0 groups" not in run(*typed).out
    found = json.loads(run("dedup", trained, folder, "--threshold", "1", "--json").out)
    assert len(found["nearest"]) == 2


def test_export_prints_lines_that_run(run, trained):
    done = run("export", trained, "--format", "safetensors", "--out", "e.safetensors")
    assert done.code == 0, done.err
    snippet = done.out[done.out.index("import json") :]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(snippet, "snippet", "exec"), {})
    assert said.getvalue().strip() == "torch.Size([1, 256])"
    assert run("export", trained, "--format", "safetensors", "--out", "e.safetensors").code == 2
    wrong = run("export", trained, "--format", "timm")
    assert wrong.code == 2
    assert "--format safetensors" in wrong.err


def test_names_cannot_speak_to_the_terminal(run, trained, tmp_path):
    folder = tmp_path / "odd\x1b[2J"
    folder.mkdir()
    name, broken = "a\x1b[31m\u202egnp\n$_$.png", "b\x9b1m\udcff.png"
    for i, each in enumerate([name, "2.png", "3.png"]):
        noise = np.random.default_rng(i % 2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / each)
    (folder / broken).write_bytes(b"broken")
    written = r"a\u001b[31m\u202egnp\n$_$.png"
    unseen = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80-\udcff]")

    search = ["search", trained, folder / name, "--in", folder]
    grouped = ["dedup", trained, folder]  # several names in a cell, as a shell takes them
    for words, said in ((search, written), ([*search, "--out", "s.png"], written), (grouped, shell(name))):
        done = run(*words)
        assert done.code == 0, done.err
        assert said in done.out
        assert not unseen.search(done.out + done.err)
    embedded = run("embed", trained, folder, "--out", "e.npz")
    assert r"b\u009b1m" in embedded.out
    assert not unseen.search(embedded.out + embedded.err)
    found = run(*search, "--json", "--out", "s.html").out
    assert not unseen.search(found)
    result = json.loads(found)
    assert result["query"] == str(folder / name)
    assert name in [match["path"] for match in result["matches"]]
    assert not unseen.search(Path("s.html").read_text(encoding="utf-8"))
    absent = run("search", trained, "absent\x1b[31m.png", "--in", folder)
    assert absent.code == 2
    assert r"absent\u001b[31m.png" in absent.err
    shutil.move("r", "\x1b[1mr")
    done = run("train", "--out", "\x1b[1mr", "--resume", "--epochs", 2)
    assert done.code == 0, done.err
    assert not unseen.search(done.out + done.err + Path("\x1b[1mr/train.log").read_text())
    assert r"--out $'\x1b[1mr'" in done.out


def test_files_that_cannot_be_read_are_named_by_every_command(run, trained, tmp_path):
    folder = tmp_path / "partly"
    folder.mkdir()
    for i in range(24):
        noise = np.random.default_rng(200 + i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    (folder / "junk.png").write_bytes(b"junk")
    (folder / "zero.png").write_bytes(b"")
    said = (
        "2 files cannot be used and are left out: junk.png (not an image in a format that is read here, or damaged at "
        "its start); zero.png (the file is empty)."
    )
    query = folder / "0.png"
    for words in (
        ["search", trained, query, "--in", folder],
        ["search", trained, query, "--in", folder],  # from the index as it was kept
        ["dedup", trained, folder],
        ["embed", trained, folder, "--out", "e.npz"],
        ["views", folder, "--count", 26],
    ):
        done = run(*words)
        assert said in " ".join(done.out.split()), words
    for words in (["search", trained, query, "--in", folder, "--json"], ["dedup", trained, folder, "--json"]):
        done = run(*words)
        assert [found["path"] for found in json.loads(done.out)["left_out"]] == ["junk.png", "zero.png"]
        assert said in " ".join(done.err.split())
    done = run("report", trained, "--data", folder, "--out", "r.html")
    assert said.replace("files", "files of the images shown here", 1) in " ".join(done.out.split())
    done = run("evaluate", trained, folder, "--test", folder, "--tasks", "geometry")
    assert "junk.png (not an image in a format" in " ".join(done.out.split())
