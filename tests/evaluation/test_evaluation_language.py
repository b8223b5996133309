"""Measures of models that write: weighted by learnt tokens, every example once, bad numbers bad."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.evaluation import measures_of
from ftjax.tasks import LanguageModeling, Preference


def records(measures, outputs, **batch):
    rows = len(next(iter(batch.values())))
    batch = {"id": np.arange(rows), "origin": np.arange(rows), "weight": np.ones(rows, np.float32), "label": np.zeros(rows, np.int32)} | batch
    part = measures.records(jnp.asarray(outputs, jnp.float32), {name: jnp.asarray(values) for name, values in batch.items()})
    return measures.gather([{name: np.asarray(values) for name, values in part.items()} | {"logits": np.asarray(outputs)}], None)


def test_tokens_weigh_alike_whatever_example_they_are_of():
    outputs = np.zeros((2, 3, 2))
    outputs[0, 1:] = [[-1.0, 1], [-3.0, 0]]
    outputs[1, 1:] = [[-2.0, 1], [-50.0, 1]]
    learn = np.array([[False, True, True], [False, True, False]])
    measures = measures_of(LanguageModeling())
    found = records(measures, outputs, learn=learn, bytes=np.array([4, 2]))
    values = measures.compute_all(found)
    assert values == pytest.approx({"perplexity": math.exp(2), "log_loss": 2.0, "token_accuracy": 2 / 3, "bits_per_byte": 1 / math.log(2)})
    assert measures.main == "perplexity"
    assert not measures.metric("perplexity").higher_is_better
    interval = measures.intervals(found, resamples=200)["perplexity"]
    assert interval["low"] <= math.exp(2) <= interval["high"]
    # The same tokens in one example instead of two.
    joined = records(measures, outputs.reshape(1, 6, 2), learn=learn.reshape(1, 6), bytes=np.array([6]))
    assert measures.compute_all(joined) == pytest.approx(values)


def test_windows_of_one_text_are_one_example():
    """Where all windows of a text are alike, twice as many of them are not twice as many examples: the interval stays as wide."""
    draw, measures, widths = np.random.default_rng(0), measures_of(LanguageModeling()), []
    losses = draw.normal(2, 0.5, 20)
    for windows in (1, 8):
        outputs = np.zeros((20 * windows, 2, 2))
        outputs[:, 1, 0] = -np.repeat(losses, windows)
        batch = {"learn": np.array([[False, True]] * 20 * windows), "bytes": np.ones(20 * windows), "origin": np.repeat(np.arange(20) * 3, windows)}
        order = draw.permutation(20 * windows)
        found = records(measures, outputs[order], id=order, **{name: values[order] for name, values in batch.items()})
        assert found.id.tolist() == list(range(0, 20 * windows, windows))
        assert found.tokens.tolist() == [windows] * 20
        np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
        interval = measures.intervals(found, resamples=300)["log_loss"]
        widths.append(interval["high"] - interval["low"])
    assert widths[1] == pytest.approx(widths[0], rel=1e-4)


def test_padding_does_not_count_and_what_is_not_finite_is_bad():
    outputs = np.full((2, 2, 2), np.nan)
    measures = measures_of(LanguageModeling())
    learn, weight = np.array([[False, True]] * 2), np.array([1, 0], np.float32)
    found = records(measures, outputs, learn=learn, bytes=np.array([1, 1]), weight=weight)
    assert len(found) == 1
    assert math.isfinite(measures.compute_all(found)["perplexity"])
    assert measures.compute_all(found)["log_loss"] > 50


def test_preferences_are_judged_against_the_reference():
    outputs = np.zeros((4, 2, 2))
    outputs[:, 1, 0] = [-1.0, -4.0, -2.0, -3.0]
    both = {f"{side}learn": np.array([[False, True]] * 2) for side in ("", "pair_")}
    measures = measures_of(Preference(beta=0.5))
    found = records(measures, outputs, reference=np.array([[-2.0, -1.5], [-4.0, -3.0]]), **both)
    np.testing.assert_allclose(found.margin, [0.5 * (1.0 + 0.5), 0.0])
    values = measures.compute_all(found)
    assert values["reward_accuracy"] == 0.5
    assert values["reward_margin"] == pytest.approx(0.375)
    assert values["log_loss"] == pytest.approx((math.log1p(math.exp(-0.75)) + math.log(2)) / 2)
