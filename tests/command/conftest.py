"""What tests of commands share."""

import pytest
from trained_model import save_trained_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a model that knows one answer."""
    folder = tmp_path_factory.mktemp("trained")
    save_trained_model(folder)
    return folder
