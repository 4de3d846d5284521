"""What README says of the claims is what the committed results say."""

import random
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the ledger draws with matplotlib")

from experiments import ledger
from experiments.methods.cell import DATA, TIERS, configuration, unseen_images
from experiments.methods.filling import KEY, METRICS, job, large, results, small
from experiments.methods.tables import markdown
from experiments.records import PROTOCOL, PROVENANCE
from experiments.trained import RESULTS, Cells
from isosphere.training import open_training_source, presets

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    return ledger.entries()


def test_the_pages_are_those_of_the_committed_results(found):
    pages = {path.name: path.read_text() for path in ledger.CLAIMS.glob("*.md")}
    assert pages == ledger.pages(found), "type python -m experiments.ledger"
    for name, part in (("claims", ledger.summary(found)), ("methods", ledger.methods())):
        page = ledger.PAGES[name].read_text()
        assert page == ledger.replaced(page, name, part), "type python -m experiments.ledger"


def test_every_claim_gives_a_command_that_exists_and_a_verdict_in_words(found):
    assert len(found) >= 9
    for entry in found:
        module = entry.command.split()[2]
        assert (ROOT / Path(*module.split(".")) / "__main__.py").exists()
        assert entry.found.word
        assert entry.found.undecided
        assert any(table.rows for table in entry.found.tables)
        assert "nan" not in entry.found.markdown(), f"{entry.claim} speaks of figures that are not there"


@pytest.mark.parametrize("share", [1, 3, 10])
def test_verdicts_stand_on_a_table_that_has_just_begun(share):
    claims = sorted((ROOT / "experiments" / "claims").glob("*/__main__.py"))
    modules = [import_module(f"experiments.claims.{path.parent.name}.__main__") for path in claims]
    rows = list(results(RESULTS))
    random.Random(share).shuffle(rows)
    for module in (m for m in modules if hasattr(m, "RESULTS")):
        found = module.verdict(rows[: len(rows) // share])
        assert found.word
        assert "nan" not in found.markdown(), f"{module.__name__} speaks of figures that are not there"


def test_cells_of_a_tier_are_asked_like_those_of_two_cores():
    asked = job("wood", "kl-vmf", 1, "method.options.cutoff=0.7")
    for tier in TIERS:
        cell = {name: str(value) for name, value in large(asked, tier).items()}
        assert cell["data"] in DATA
        assert cell["epochs"] == "120"
        rows = [cell | {"recall1_head": "50"}, {k: str(v) for k, v in asked.items()}]
        assert Cells(small(rows, tier)).values("wood", "kl-vmf", "recall1_head", asked["options"]) == {
            1: 50.0
        }
        config = configuration(large(asked, tier), "textures:wood")
        assert config.model.encoder == TIERS[tier]["model.encoder"]
        assert config.train.epochs == 120


def test_runs_are_chosen_by_training_images_that_they_did_not_see():
    def paths(images):
        return set(images.paths)

    config = configuration(job("wood", "kl-vmf"), "textures:wood")
    unseen = unseen_images(config, 50)
    assert unseen is not None
    assert len(unseen) == 50
    assert paths(unseen).isdisjoint(paths(open_training_source(config)))


def test_the_table_of_cells_has_the_columns_that_the_code_writes():
    header = RESULTS.read_text().splitlines()[0].split(",")
    assert header[: len(KEY) + len(METRICS) + len(PROVENANCE)] == [*KEY, *METRICS, *PROVENANCE]
    assert results(RESULTS).columns == [*KEY, *METRICS, *PROVENANCE, "protocol"]


def test_readme_has_five_claims_each_with_its_page(found):
    table = ledger.summary(found).splitlines()
    assert len(table) == 2 + 5
    for folder in ledger.README:
        assert sum(f"](docs/claims/{folder}.md)" in line for line in table) == 1


def test_a_page_has_the_verdict_its_figures_its_picture_and_its_command(found):
    pages = ledger.pages(found)
    for entry in found:
        page = pages[f"{entry.folder}.md"]
        assert page.startswith(f"# {entry.claim}\n")
        assert all(part in page for part in entry.found.markdown().split("\n\n"))
        assert entry.command in page
        assert all(f"../../experiments/{picture})" in page for picture in entry.pictures)
        assert f"]({entry.folder}.md) | **{entry.word}** |" in pages["index.md"]


def test_claims_from_rows_of_an_older_protocol_say_so(found):
    for entry in found:
        module = import_module(entry.command.split()[2] + ".__main__")
        rows = ledger._wanted(module, ledger._results(module, Path(str(module.HERE)) / "results.csv"))
        old = any(row.get("protocol", "1") in ("", "1") for row in rows)
        judged = hasattr(module, "RESULTS") or hasattr(module, "CELL")
        assert bool(entry.older) == (judged and old), entry.claim
        assert entry.older in ledger.pages(found)[f"{entry.folder}.md"]


def row_of(method: str, seed: int, knn: float, protocol: str = "") -> dict[str, str]:
    key = {"data": "cifar10", "method": method, "options": "", "epochs": "10", "seed": str(seed)}
    return key | {"knn": str(knn)} | ({"protocol": protocol} if protocol else {})


def test_rows_of_two_protocols_are_not_averaged():
    rows = [*(row_of("simclr", seed, 40 + seed) for seed in (0, 1, 2)), row_of("simclr", 0, 50, PROTOCOL)]
    cells = Cells([*rows, row_of("byol", 0, 30)])
    assert cells.values("cifar10", "simclr", "knn") == {0: 50.0}
    assert cells.values("cifar10", "byol", "knn") == {0: 30.0}  # there is no newer one
    assert cells.dispersion("cifar10", "knn") == 0


def test_the_tables_of_methods_carry_their_protocol_until_all_rows_are_of_this_one():
    full = dict.fromkeys(METRICS, "") | {"images_per_second": "1", "peak_mib": "1"}
    old, new = full | row_of("simclr", 0, 40), full | row_of("byol", 0, 40, PROTOCOL)
    assert markdown([old]).splitlines()[-1].startswith("As of the older protocol")
    assert markdown([old, new]).splitlines()[-1].startswith("1 of 2 rows are as of the older protocol")
    assert "python -m experiments.methods" in markdown([old, new]).splitlines()[-1]
    assert "protocol" not in markdown([new])
    assert "protocol" not in markdown([old, full | row_of("simclr", 0, 41, PROTOCOL)])  # measured again


def test_cells_average_over_seeds_and_add_errors_in_squares():
    def row(method: str, seed: int, knn: float, data: str = "cifar10", options: str = "") -> dict[str, str]:
        key = {"data": data, "method": method, "options": options, "epochs": "10", "seed": str(seed)}
        return key | {"knn": str(knn)}

    cells = Cells(
        [
            *(row("a", seed, knn) for seed, knn in ((1, 42.0), (0, 40.0), (2, 44.0))),
            *(row("a", seed, knn, options="x") for seed, knn in ((0, 41.0), (1, 42.0))),
            row("b", 0, 36.0),
            row("a", 0, 50.0, "imagenette"),
        ]
    )
    assert cells.values("cifar10", "a", "knn") == {0: 40.0, 1: 42.0, 2: 44.0}
    assert cells.mean("cifar10", "a", "knn") == 42.0
    # Squares about both means over p (1 - p), over three degrees of freedom.
    square = (8e-4 / (0.42 * 0.58) + 0.5e-4 / (0.415 * 0.585)) / 3
    assert cells.dispersion("cifar10", "knn") == pytest.approx(square**0.5)
    assert cells.dispersion("imagenette", "knn") == pytest.approx(
        square**0.5
    )  # has no repeated cell of its own
    assert cells.dispersion("cifar10", "linear") == 0
    a = 1e4 * 0.42 * 0.58 * (1 / 5000 + square / 3)
    b = 1e4 * 0.36 * 0.64 * (1 / 5000 + square)
    assert cells.error("cifar10", "a", "knn") ** 2 == pytest.approx(a)
    assert cells.error("cifar10", "b", "knn") ** 2 == pytest.approx(b)
    assert cells.error("imagenette", "a", "knn") ** 2 == pytest.approx(1e4 * 0.25 * (1 / 1500 + square))
    difference, error = cells.gain("cifar10", "a", "b", "knn")
    assert difference == 6.0
    assert error**2 == pytest.approx(a + b)


def test_features_that_no_seed_changes_have_the_error_of_the_images_alone():
    key = {"data": "cifar10", "options": ""}
    rows = [key | {"method": "a", "epochs": "10", "seed": s, "knn": v} for s, v in (("0", "40"), ("1", "44"))]
    cells = Cells([*rows, key | {"method": "pixels", "epochs": "0", "seed": "0", "knn": "50"}])
    assert cells.error("cifar10", "pixels", "knn") == pytest.approx(100 * (0.25 / 5000) ** 0.5)


def test_what_was_not_run_says_so_with_a_command_that_would(found):
    missing = ledger.unrun(found)
    page = ledger.index(found)
    for place in ("ImageNet-1K", "ImageNet-100", "Galaxy10", "CIFAR-100", "STL-10"):
        assert any(place in claim for claim in missing)
    for claim, command in missing.items():
        assert f"| {claim} | `{command}` |" in page.partition("## Not run")[2]
        words = command.split()
        if "--preset" in words:
            assert words[words.index("--preset") + 1] in presets()
    assert not missing.keys() & {entry.claim for entry in found}
