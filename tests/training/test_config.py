"""The schema: one meaning of every key, and errors that say what to type."""

import pytest
import yaml

from isosphere.errors import UsageError, for_a_shell
from isosphere.training import Config, describe_keys, known_keys, load_config, parse_config


def refused(*args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(*args, **kwargs)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_file_then_sets_then_flags(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("optim: {learning_rate: 0.01, weight_decay: 0.2}\ntrain: {epochs: 7, seed: 5}\n")
    config = load_config(file, ["optim.learning_rate=3e-2"], {"train.seed": 9, "train.minutes": None})
    assert config.optim.learning_rate == 0.03
    assert config.optim.weight_decay == 0.2
    assert (config.train.epochs, config.train.seed) == (7, 9)


def test_yaml_round_trip():
    config = load_config(None, ["views.rotation=18", "method.options.teacher=0.99", "train.minutes=2"])
    again = parse_config(yaml.safe_load(yaml.safe_dump(config.as_mapping())))
    assert again == config
    assert config.views.overrides == {"rotation": 18}
    assert config.method.options == {"teacher": 0.99}


def test_short_and_long_names_of_a_view_override_are_one():
    short = load_config(None, ["views.scale=[0.5, 1]"])
    assert short == load_config(None, ["views.overrides.scale=[0.5, 1]"])


def test_nested_options_of_a_file_are_kept_beside_new_ones(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("views: {overrides: {rotation: 5, noise: 0.1}}\n")
    config = load_config(file, ["views.overrides.rotation=9"])
    assert config.views.overrides == {"rotation": 9, "noise": 0.1}
    assert load_config(file, ["views.rotation=9"]).views.overrides["noise"] == 0.1


@pytest.mark.parametrize(
    ("saved", "flag", "expected"),
    [
        ({"epochs": 5}, {"train.minutes": 2.0}, (None, 2.0)),
        ({"minutes": 5.0}, {"train.epochs": 3}, (3, None)),
        ({"epochs": 5}, {"train.seed": 3}, (5, None)),
    ],
)
def test_a_new_length_replaces_the_old_one(saved, flag, expected):
    config = load_config(None, [], flag, base={"train": saved})
    assert (config.train.epochs, config.train.minutes) == expected


def test_the_base_is_not_changed():
    base = {"train": {"epochs": 5}, "views": {"overrides": {"noise": 0.1}}}
    load_config(None, ["views.overrides.noise=0.2"], {"train.minutes": 1.0}, base=base)
    assert base == {"train": {"epochs": 5}, "views": {"overrides": {"noise": 0.1}}}


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["optim.lerning_rate=1"], ["no key 'optim.lerning_rate'", "'optim.learning_rate'"]),
        (["optm.learning_rate=1"], ["no section 'optm'", "'optim'"]),
        (["learning_rate=1"], ["section.key=value", 'optim={"learning_rate": 1}']),
        (["optim.learning_rate"], ["section.key=value"]),
        (["optim.learning_rate=fast"], ["optim.learning_rate", "got 'fast'", "number"]),
        (["optim.learning_rate=-1"], ["got -1", "greater than 0"]),
        (["optim.learning_rate=.inf"], ["finite"]),
        (["optim.name=adam"], ["got 'adam'", "'adamw', 'lars' or 'sgd'"]),
        (["optim.momentum=0.5"], ["adamw has none", 'optim={"name": "sgd"}']),
        (["optim.name=sgd", "optim.momentum=1"], ["optim.momentum", "less than 1"]),
        (["train.batch_size=1"], ["batch of 1", "batch_size=64"]),
        (["train.precision=half"], ["got 'half'", "'auto', 'bf16', 'fp16' or 'float32'"]),
        (["train.epochs=3", "train.minutes=2"], ["epochs = 3 and minutes = 2"]),
        (["views.rotatoin=1"], ["'views.rotation'"]),
        (["views.size=32"], ["views.size"]),
        (["views.overrides.size=32"], ["data.image_size"]),
        (["train.epochs.x=1"], ["train.epochs"]),
        (["train.epochs=3", "train.epochs.x=1"], ["is a value, not a section"]),
    ],
)
def test_wrong_settings_say_what_to_type(sets, words):
    message = refused(None, sets)
    for word in words:
        assert word in message, message


def test_at_a_command_line_the_same_is_said_in_flags():
    with for_a_shell():
        assert "--batch-size 64" in refused(None, ["train.batch_size=1"])
        assert "--set optim.learning_rate=..." in refused(None, ["optim.learning_rate=fast"])
        assert "Give another --minutes, or" in refused(None, ["train.minutes=0"])
        assert "--set optim.name=sgd" in refused(None, ["optim.momentum=0.5"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", ["not valid YAML in line"]),
        ("- 1\n- 2\n", ["got a list", "expected sections"]),
        ("trian: {epochs: 3}", ["no section 'trian'", "'train'"]),
        ("train: 3", ["train: got 3", "section with keys"]),
        ("train: {epochs: [1]}", ["train.epochs", "got [1]"]),
        ("x: !!python/object/apply:os.system ['true']", ["not valid YAML"]),
    ],
)
def test_broken_files_say_where(tmp_path, content, words):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    message = refused(file)
    for word in words:
        assert word in message, message


def test_a_missing_or_binary_file(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01\x80")
    assert "b.yaml" in refused(tmp_path / "b.yaml")


def test_an_empty_file_is_the_default(tmp_path):
    (tmp_path / "e.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "e.yaml") == Config()


def test_a_key_given_twice_is_refused():
    assert "given twice" in refused(None, ["train.epochs=3"], {"train.epochs": 3})


def test_several_errors_are_all_named():
    message = refused(None, ["optim.lerning_rate=1", "train.epochs=-1"])
    assert "lerning_rate" in message
    assert "train.epochs" in message


def test_every_key_can_be_listed_and_set_to_its_default():
    rows = describe_keys()
    assert [row[0] for row in rows] == known_keys()
    own = [f"{key}={default}" for key, default, about in rows if default != "-" and about != "of the recipe"]
    assert load_config(None, own) == Config()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"method": {"weight": 0.2, "options": {"weight": 0.3}}},
            "got method.options.weight=0.3 and method.weight=0.2",
        ),
        (
            {"model": {"dim": 9}, "method": {"options": {"dim": 8}}},
            "got method.options.dim=8 and model.dim=9",
        ),
        ({"method": {"options": {"global_views": 1}}}, 'give views={"global_views": 1}'),
    ],
)
def test_an_option_of_the_method_has_one_place(given, words):
    with pytest.raises(UsageError) as refusal:
        parse_config(given).method_options()
    assert words in str(refusal.value)


def test_what_is_typed_has_no_comments():
    config = load_config(sets=["data.ground=#ff8800", "data.source=My pictures #2"])
    assert config.data.ground == "#ff8800"
    assert config.data.source == "My pictures #2"
    assert load_config(sets=["data.source='a # b'", "data.white="]).data.source == "a # b"


def test_a_family_of_textures_keeps_the_number_and_size_of_the_source():
    def source(*sets, **kwargs):
        return load_config(sets=sets, **kwargs).data.source

    preset = "textures-mmd-heat"
    own = load_config(preset=preset).data.source
    assert own is not None
    cloud = own.replace("wood", "cloud")
    assert "count=10000" in cloud
    assert source("data.family=cloud", preset=preset) == cloud
    assert source(preset=preset, flags={"data.source": "textures:cloud"}) == cloud
    assert source("data.source=textures:cloud?count=50", preset=preset) == "textures:cloud?count=50"
    assert source("data.source=PICTURES", preset=preset) == "PICTURES"
    assert source("data.family=disk") == "textures:disk"
    assert source("data.source=textures:wood?size=96", "data.family=flake") == "textures:flake?size=96"
    assert load_config(sets=["data.family=disk"]) == load_config(sets=["data.source=textures:disk"])


def test_a_family_of_what_is_no_texture_is_refused():
    assert "is that of textures" in refused(sets=["data.family=cloud", "data.source=PICTURES"])
    assert "data.family" in refused(sets=["data.family=stone"])
