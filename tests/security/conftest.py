"""Brokers that the tests of a file share. An attack must leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from security.yard import Vault, Yard


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Start a broker with keys that takes no tokens."""
    with Yard(Vault(tmp_path_factory.mktemp("keys"))) as yard:
        yield yard


@pytest.fixture(scope="module")
def token_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Start a broker with keys that takes tokens. Their signing key is `mint`, or `token_yard.mint`."""
    vault = Vault(tmp_path_factory.mktemp("tokens"))
    mint = vault.token_key("mint")
    with Yard(vault) as yard:
        yard.mint = mint
        yield yard
