"""What tests of stages share: a folder of their own with parameters in it."""

from pathlib import Path

import pytest
import yaml

from tests.parameters import SMOKE, changed


@pytest.fixture
def set_params(tmp_path, monkeypatch):
    """A function that writes params.yaml, the smoke test's with some keys changed, into a folder.

    The folder is the test's own, and the current one.
    """
    monkeypatch.chdir(tmp_path)

    def write(**values):
        params = changed(SMOKE, **{"attrop": None, **values})
        Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
        return params

    return write
