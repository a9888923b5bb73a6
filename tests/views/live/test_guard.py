"""Who may read the live page, and who may change the run with it."""

import pytest
from aiohttp import web
from multidict import CIMultiDict

from views.live.guard import Guard
from views.live.token import TOKEN_VARIABLE, read_token

TOKEN = "a-token-that-is-long-enough"


def refuses(guard, *, is_page=False, **headers):
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    try:
        guard.check_names(named, is_page=is_page)
    except web.HTTPForbidden:
        return True
    return False


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:9", "LOCALHOST", "[::1]:80", "127.0.0.1"]
)
def test_the_names_of_loopback_are_answered(host):
    assert not refuses(Guard(), Host=host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "",
        "[",
        "localhost@evil.example",
    ],
)
def test_any_other_name_is_refused_as_after_a_rebinding(host):
    assert refuses(Guard(), Host=host)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8001", "http://localhost:8000"]
)
def test_what_another_origin_has_sent_is_refused(origin):
    assert refuses(Guard(), Host="127.0.0.1:8000", Origin=origin)
    assert not refuses(Guard(), Host="127.0.0.1:8000", Origin="http://127.0.0.1:8000")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_can_link_to_the_page_and_nothing_else(site):
    assert refuses(Guard(), Host="localhost", Sec_Fetch_Site=site)
    assert not refuses(Guard(), Host="localhost", Sec_Fetch_Site=site, is_page=True)
    assert not refuses(Guard(), Host="localhost", Sec_Fetch_Site="same-origin")


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def test_a_token_comes_from_a_private_file_or_the_environment(token_file, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token() == ""
    assert read_token(str(token_file)) == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, "another-token-of-some-length")
    assert read_token() == "another-token-of-some-length"
    assert read_token(str(token_file)) == TOKEN


def test_a_token_that_others_can_read_is_refused(token_file):
    token_file.chmod(0o640)
    with pytest.raises(ValueError, match="others can read the token"):
        read_token(str(token_file))


@pytest.mark.parametrize("text", ["", "short", "fifteen-letters", "with a\nline break in it"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token_file, text):
    token_file.write_text(text)
    with pytest.raises(ValueError, match="at least 16 printable ASCII characters"):
        read_token(str(token_file))
