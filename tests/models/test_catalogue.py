"""What is known of encoders, against the networks themselves."""

import timm

from isosphere.models import FIRST_ENCODERS, EncoderFacts, build_encoder, encoder_facts, encoder_names
from isosphere.workflows import RECOMMENDED_NETWORKS


def test_every_encoder_is_listed_and_most_have_facts():
    facts = encoder_facts()
    assert [each.name for each in facts] == encoder_names()
    counted = [each for each in facts if each.parameters is not None]
    assert len(counted) > 0.9 * len(facts)
    assert all(each.speed for each in facts if each.multiplications is not None)


def test_facts_are_those_of_the_networks():
    known = {each.name: each for each in encoder_facts()}
    for name in ("resnet18", "vit_tiny_patch16_224"):
        network = timm.create_model(name, num_classes=0)
        assert known[name].parameters == sum(p.numel() for p in network.parameters())
        assert known[name].image_size == 224
    assert round(known["resnet18"].multiplications / 1e9, 1) == 1.8
    own = build_encoder("small-conv", image_size=32).backbone
    assert known["small-conv"].parameters == sum(p.numel() for p in own.parameters())


def test_those_to_take_first_are_known_and_hold_what_is_recommended():
    known = {each.name: each for each in encoder_facts()}
    assert all(known[name].speed for name in FIRST_ENCODERS)
    assert set(RECOMMENDED_NETWORKS) <= set(FIRST_ENCODERS)
    for name, said in RECOMMENDED_NETWORKS.items():
        assert known[name].speed == said.speed
        assert f"{round(known[name].parameters / 1e6)} M" == said.parameters


def test_speed_is_compared_at_224_px():
    assert EncoderFacts("x", 448, 1, int(3.9e9)).speed == "fast"
    assert EncoderFacts("x", 224, 1, int(3.9e9)).speed == "medium"
    assert EncoderFacts("x", 224, 1, int(30e9)).speed == "very slow"
    assert EncoderFacts("x", 224, 1).speed == ""
