"""One claim for real, small enough for every night: it fails when fine-tuning no longer beats training from scratch."""

import pytest

from benchmarks.claims import pretraining, running
from benchmarks.claims.statements import CLAIMS


@pytest.mark.slow
def test_fine_tuning_beats_training_from_scratch_with_20_labels(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("FTJAX_SHARED_DATA", str(shared_data))
    monkeypatch.setattr(pretraining, "STEPS", 1000)
    claim = next(claim for claim in CLAIMS if claim.name == "scratch_20")
    found = running.run([claim], 4, tmp_path, (1e-3, 3e-3), lambda line: None)
    verdicts = {one["reading"]: one["verdict"] for one in found["claims"][0]["statements"]}
    assert verdicts == {"tuned": "holds", "averaged": "holds"}, found["claims"][0]
    assert found["units"].keys() == {"labels_20/full", "labels_20/scratch"}
    told = []
    again = running.run([claim], 4, tmp_path, (1e-3, 3e-3), told.append)
    assert again == found
    assert told[-1].startswith("2 of 2  labels_20/scratch")
