"""Records for tests: of hand-written predictions, and drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ftjax.evaluation import Records


def records_of(label, prediction, *, confidence=None, log_probability=None, rank=None, weight=None, id=None) -> Records:
    """Records of hand-written columns; what is left out is plain."""
    rows = len(label)
    label, prediction = np.asarray(label, np.int32), np.asarray(prediction, np.int32)
    return Records(
        id=np.arange(rows, dtype=np.int32) if id is None else np.asarray(id, np.int32),
        label=label,
        prediction=prediction,
        confidence=np.full(rows, 0.5, np.float32) if confidence is None else np.asarray(confidence, np.float32),
        label_log_probability=np.full(rows, -0.7, np.float32) if log_probability is None else np.asarray(log_probability, np.float32),
        label_rank=np.where(label == prediction, 0, 1).astype(np.int32) if rank is None else np.asarray(rank, np.int32),
        weight=np.ones(rows, np.float32) if weight is None else np.asarray(weight, np.float32),
    )


@st.composite
def logits_and_labels(draw) -> tuple[np.ndarray, np.ndarray]:
    """Distinct finite float32 logits and labels; classes may be absent from the labels and from the predictions."""
    # Few shapes: each is compiled once.
    rows, classes = draw(st.sampled_from([1, 2, 5, 13, 40])), draw(st.sampled_from([2, 3, 6]))
    label = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    favourite = draw(hnp.arrays(np.float32, classes, elements=st.sampled_from([0.0, 0.0, 50.0, -50.0])))
    return (generator.normal(size=(rows, classes)) * scale + favourite * 0.1).astype(np.float32), label
