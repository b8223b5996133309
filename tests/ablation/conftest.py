"""The files of `ablation_parts`, written once."""

from pathlib import Path

import pytest
from ablation_parts import write_files


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_files(folder)
    return folder
