"""What of an address is a secret: it is neither printed nor stored, and known to this process."""

import pytest

from isosphere import addresses
from isosphere.addresses import Secrets, is_address, public, secrets_of, without_secrets
from isosphere.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "shown", "login", "query"),
    [
        ("https://host/a.tar", "https://host/a.tar", "", ""),
        ("https://me:word@host:8080/a.tar", "https://host:8080/a.tar", "me:word", ""),
        ("https://host:8080/a@b.tar", "https://host:8080/a@b.tar", "", ""),
        ("https://host/a{0..3}.tar?sig=x%2F&y=1#z", "https://host/a{0..3}.tar", "", "?sig=x%2F&y=1#z"),
        ("https://host/a.tar?sig=x?classes=f.txt", "https://host/a.tar?classes=f.txt", "", "?sig=x"),
        ("https://host/a.tar?classes=f.txt", "https://host/a.tar?classes=f.txt", "", ""),
        ("s3://KEY:ab/c+d@bucket/a.tar", "s3://bucket/a.tar", "KEY:ab/c+d", ""),
        ("s3://bucket/train-00?.tar", "s3://bucket/train-00?.tar", "", ""),
        ("s3://bucket/a@b:c/d.tar", "s3://bucket/a@b:c/d.tar", "", ""),
        ("hf://datasets/me/set@main/a.parquet", "hf://datasets/me/set@main/a.parquet", "", ""),
        ("HTTPS://me:word@host/a.tar", "HTTPS://host/a.tar", "me:word", ""),
    ],
)
def test_what_is_shown_of_an_address(typed, shown, login, query, monkeypatch):
    monkeypatch.setattr(addresses, "_known", {})
    assert is_address(typed)
    assert public(typed) == shown
    assert public(shown) == shown
    assert secrets_of(shown.partition("?classes=")[0]) == Secrets(login, query)


def test_secrets_are_found_in_a_text():
    typed = "data.source=https://me:word@host/one.tar?a=1 + s3://k:s@bucket/two.tar + pictures"
    assert public(typed) == "data.source=https://host/one.tar + s3://bucket/two.tar + pictures"
    assert secrets_of("https://host/one.tar") == Secrets("me:word", "?a=1")
    assert secrets_of("s3://bucket/two.tar") == Secrets("k:s")
    said = "403, message='Forbidden', url='https://me:word@host/three.tar?sig=abc' (x)"
    assert without_secrets(said) == "403, message='Forbidden', url='https://host/three.tar' (x)"
    assert not secrets_of("https://host/three.tar")
    assert "word" not in repr(secrets_of("https://host/one.tar"))


@pytest.mark.parametrize("text", ["pictures", "textures:wood?count=20", "./a b.tar", "C:\\pictures", "a@b"])
def test_other_names_stay(text):
    assert not is_address(text)
    assert public(text) == text


def test_files_that_differ_in_their_query_alone_are_refused(monkeypatch):
    """They would be taken for one file, that of the last query."""
    monkeypatch.setattr(addresses, "_known", {})
    with pytest.raises(UsageError, match=r"https://h/get.tar is named with different queries or passwords"):
        public("https://h/get.tar?id=0 + https://h/get.tar?id=1")
    given = {}
    public("https://h/a.jpg?s=1", given)
    public("https://h/a.jpg?s=1", given)
    public("https://h/a.jpg", given)
    with pytest.raises(UsageError, match="and give their folder"):
        public("https://me:x@h/a.jpg", given)
    public("https://h/a.jpg?s=2")  # signed anew, by another call
    assert secrets_of("https://h/a.jpg").query == "?s=2"
