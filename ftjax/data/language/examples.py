"""Tables of prompts, answers, messages or plain text as examples, each row checked; rows that cannot be used are named with their line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftjax.config import DataConfig, TextConfig
from ftjax.data.dataset import SPLITS
from ftjax.data.language.forms import Form, find_form
from ftjax.data.text.examples import Examples, check_rejected, file_names
from ftjax.data.text.places import Places
from ftjax.data.text.table import Table, row_name
from ftjax.errors import DataError


def read_language(tables: Mapping[str, Table], data: DataConfig, text: TextConfig, task: str) -> Examples:
    """The examples of all splits: `labels` holds what is learnt from (`turns.Content`), `texts` what is compared to find copies.

    Raises:
      DataError: a column is missing, or (with `data.bad_files="error"`) a row cannot be used: all are listed.
    """
    forms = {split: find_form(table, text, task) for split, table in tables.items()}
    kinds = {form.kind for form in forms.values()}
    if "passage" in kinds and len(kinds) > 1:
        told = ", ".join(f"{tables[split].where}: {form.kind}" for split, form in forms.items())
        raise DataError(f"some files hold plain text and others answers ({told}); say text.text, text.prompt and text.response, or text.messages")
    names, rows, rejected, warnings = file_names(tables), [], [], []
    for split in filter(tables.__contains__, SPLITS):
        table = tables[split]
        read, place_of = forms[split].reader(table), Places(table, data)
        warnings += table.warnings
        rejected += [{"file": row_name(names[split], line), "why": why} for line, why in table.rejected]
        for row, line in enumerate(table.lines):
            name = row_name(names[split], line)
            try:
                rows.append((name, split, read(row), *place_of(row)))
            except DataError as error:
                rejected.append({"file": name, "why": str(error)})
    check_rejected(str(data.path), rejected, len(rows), data.bad_files)
    ids, splits, contents, groups, moments = (list(column) for column in zip(*rows)) if rows else ([], [], [], [], [])
    return Examples(
        str(data.path),
        ids,
        splits,
        [content.text for content in contents],
        None,
        contents,
        rejected,
        _facts(tables, forms),
        tuple(dict.fromkeys(warnings)),
        [group for group in groups if group is not None],
        [moment for moment in moments if moment is not None],
    )


def _facts(tables: Mapping[str, Table], forms: Mapping[str, Form]) -> dict[str, Any]:
    """What was found out of the files."""
    train = forms["train"]
    others = {split: form.to_json() for split, form in forms.items() if form.columns != train.columns}
    used = {column for form in forms.values() for column in form.columns.values()}
    hidden = {name for table in tables.values() if table.facts.get("format") == "plain text" for name in table.columns}
    return {
        "columns": train.to_json(),
        **({"columns_by_split": others} if others else {}),
        "form": train.kind,
        "unused_columns": sorted({name for table in tables.values() for name in table.columns} - used - hidden),
        "encoding": tables["train"].facts.get("encoding"),
        "delimiter": tables["train"].facts.get("delimiter"),
        "format": tables["train"].facts.get("format"),
        "files": {split: table.where for split, table in tables.items()},
    }
