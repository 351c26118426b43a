"""Which files a provider is made from."""

from pathlib import Path
from typing import Any

from xrouter.configuration.changes import certificates, certificates_of, files_of
from xrouter.settings import Config, parse_config


def config(**provider: Any) -> Config:
    said = {"base_url": "https://a.example/v1", "api_key": "old", "models": ["m"]} | provider
    return parse_config({"providers": {"a": said}}, "x.yaml")


def test_a_file_that_an_option_names_is_known() -> None:
    found = config(options={"token_file": "/run/secrets/token", "folder": "b1g"})
    assert files_of(found.providers["a"]) == {Path("/run/secrets/token")}
    assert certificates(found) == ()


def test_certificates_are_read_again_when_they_are_renewed() -> None:
    found = config(ca_bundle="/tls/roots.pem", client_cert="/tls/own.pem", client_key="/tls/own.key")
    renewed = {Path("/tls/roots.pem"), Path("/tls/own.pem"), Path("/tls/own.key")}
    assert certificates_of(found.providers["a"]) == files_of(found.providers["a"]) == renewed
    assert certificates(found) == tuple(sorted(renewed))
