"""Brokers that the tests of a file share: attacks have to leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from security.yard import Vault, Yard


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A broker that takes keys and no tokens."""
    with Yard(Vault(tmp_path_factory.mktemp("keys"))) as yard:
        yield yard


@pytest.fixture(scope="module")
def token_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A broker that takes keys, and tokens signed with the key `mint`, which is `token_yard.mint`."""
    vault = Vault(tmp_path_factory.mktemp("tokens"))
    mint = vault.token_key("mint")
    with Yard(vault) as yard:
        yard.mint = mint
        yield yard
