"""Modules are loaded without looking for garbage, which goes on afterwards whatever came of it."""

from __future__ import annotations

import gc

import pytest

from ops.loading import loading


def test_nothing_is_collected_while_modules_are_loaded_and_again_afterwards() -> None:
    with loading():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_collections_go_on_after_a_module_that_cannot_be_loaded() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError

    assert gc.isenabled()
