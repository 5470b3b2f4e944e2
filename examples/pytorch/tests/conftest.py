"""The fixture that several files share; the module is found beside this folder."""

import pytest
from small import generate


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store of sources only; the CPU does not need those either."""
    return generate(tmp_path_factory.mktemp("store") / "small.tamis", "--arch", "sm_80", "--no-compile")
