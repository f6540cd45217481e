"""Makes the helpers beside importable by name; what several of these tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a run that was really trained, to be copied."""
    import spoken

    return spoken.train(tmp_path_factory.mktemp("spoken"))
