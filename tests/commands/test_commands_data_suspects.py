"""`ftjax data report --pretrained`: wrong labels and far rows as suggestions, on the terminal, on the page and in drop.txt."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from ftjax import main
from ftjax.config import DataConfig
from ftjax.data.sources import read_source
from ftjax.training.inspection import Body

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def digits(tmp_path):
    """Eight digits of each class in folders; one 3 lies among the 8s."""
    rows = read_source(DataConfig(source="digits"))
    root = tmp_path / "numbers"
    for label in range(2, 9):
        for number, row in enumerate(np.flatnonzero(rows.labels == label)[:8]):
            name = "8" if (label, number) == (3, 5) else str(label)
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(rows.read(int(row))).squeeze()).save(root / name / f"{label}_{number:02d}.png")
    return root


def report(path, output, *flags):
    return main.main(["data", "report", str(path), "--output", str(output), *flags])


def test_a_wrong_label_is_suggested_with_its_picture_and_taken_only_by_choice(digits, tmp_path, capsys):
    page = tmp_path / "out" / "page.html"
    assert report(digits, page, "--pretrained", "builtin:digits") == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    found = json.loads((page.parent / "findings.json").read_text())
    probe, wrong, rows = found["label_errors"]["probe"], len(found["label_errors"]["rows"]), sum(split["rows"] for split in found["splits"].values())
    assert probe["majority"] == 9 / rows, "the 8s and the 3 among them"
    judge = f"{probe['accuracy']:.1%} of them (the most frequent class alone: {probe['majority']:.1%})"
    assert f"rows that the probe of labels gets right {probe['accuracy']:.1%} rows of the most frequent class 16.1%" in re.sub(r"[│ ]+", " ", said)
    clause = "1 label is probably wrong" if wrong == 1 else f"{wrong} labels are probably wrong"
    warned = f"{clause} (of {rows} rows), says a probe that is right for {probe['accuracy']:.1%} of the rows; the most frequent class alone is right for 16.1%."
    assert f"warning: {warned}" in said
    worst = found["label_errors"]["rows"][0]
    assert (worst["id"], worst["label"], worst["suggested"]) == ("8/3_05.png", "8", "3")
    assert found["outliers"]["threshold"] > found["outliers"]["median"] > 0
    html = page.read_text()
    assert "Labels that are probably wrong" in html
    assert "8 → 3" in html
    assert '<a href="#label_errors">Labels that are probably wrong</a>' in html
    assert '<section id="label_errors">' in html
    assert judge in html
    lead = re.search(r'<p class="verdict">(.*)</p>', html)[1]
    assert clause in lead
    assert warned in html
    far = len(found["outliers"]["rows"])
    assert ("far from all others" in lead) == ('href="#outliers"' in html) == any("far from all others" in line for line in found["warnings"]) == (far > 0)
    lines = (page.parent / "drop.txt").read_text().splitlines()
    suggested = next(line for line in lines if "8/3_05.png" in line)
    assert suggested.startswith("# 8/3_05.png  # the label '8' is probably wrong; a probe that has not seen the row says '3' (quality of the label 0.")


def test_rows_of_data_drop_are_left_out_before_features_are_computed(digits, tmp_path, monkeypatch):
    asked, plain = [], Body.features
    monkeypatch.setattr(Body, "features", lambda body, params, extra, split, told: (asked.extend(split.ids), plain(body, params, extra, split, told))[1])
    drop = tmp_path / "drop.txt"
    drop.write_text("8/3_05.png\n2/2_00.png\n")
    assert report(digits, tmp_path / "page.html", "--pretrained", "builtin:digits", f"--config.data.drop={drop}") == 0
    assert len(asked) == 7 * 8 - 2
    assert not {"8/3_05.png", "2/2_00.png"} & set(asked)
    found = json.loads((tmp_path / "findings.json").read_text())
    assert not any(row["id"] == "8/3_05.png" for row in found["label_errors"]["rows"])


def test_what_cannot_be_judged_is_refused(digits, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert report(digits, page, "--config.model.image_size=(16, 16)") == 2
    assert "--config.model.image_size means nothing to `data report`; it reads data.*, text.*, recommendation.* and task.name" in re.sub(
        r"\s+", " ", capsys.readouterr().err
    )
    table = tmp_path / "scores.csv"
    table.write_text("text,label\none,0.5\ntwo,0.7\n")
    assert report(table, page, "--pretrained", "builtin:digits", "--config.task.name=regression") == 2
    assert "--pretrained judges the class of each row; task.name='regression' has none: allowed is 'classification'" in re.sub(
        r"\s+", " ", capsys.readouterr().err
    )
    assert not page.exists()
