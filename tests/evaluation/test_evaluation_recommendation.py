"""Metrics of lists against ir-measures and by hand, the measures of a split on any cut into batches, and what is said of single users."""

from __future__ import annotations

import dataclasses
import types

import ir_measures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_examples import random_rows, split_of

from ftjax.data import eval_batches
from ftjax.errors import ConfigError
from ftjax.evaluation import read_records, write_records
from ftjax.evaluation.kinds.recommendation import RecommendationMeasures
from ftjax.evaluation.metric import Proportion
from ftjax.evaluation.ranking.metrics import average_precision, hits, metrics_of, ndcg, recall

ITEMS = 40
DRAW = np.random.default_rng(0)
TRAIN = [DRAW.integers(1, 21, 8).tolist() for _ in range(10)]
MEASURES = RecommendationMeasures(ITEMS, k=(1, 5, 10), chunk=16, several=True)
TABLE = jnp.asarray(DRAW.normal(size=(ITEMS + 1, 4)), jnp.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Outputs:
    users: jax.Array
    items: jax.Array
    bias: jax.Array | None = None


def run(rows, measures=MEASURES, size=4, **options):
    split = split_of(rows, ITEMS, train=TRAIN, several=measures.several, **options)
    users = jnp.asarray(np.random.default_rng(1).normal(size=(len(rows), 4)), jnp.float32)

    @jax.jit
    def step(batch):
        return measures.records(Outputs(users[batch["id"]], TABLE), batch)

    parts = [jax.tree.map(np.asarray, step({name: jnp.asarray(array) for name, array in batch.items()})) for batch in eval_batches(split, size)]
    return measures.gather(parts, split), split


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 10]))
def test_metrics_of_lists_are_those_of_ir_measures(seed, k):
    generator = np.random.default_rng(seed)
    ranks = np.zeros((5, 4), np.int32)
    for row in ranks:
        places = generator.choice(np.arange(1, 25), generator.integers(1, 5), replace=False)
        row[: len(places)] = places
    qrels = [ir_measures.Qrel(str(user), f"d{place}", 1) for user, row in enumerate(ranks) for place in row if place]
    run_ = [ir_measures.ScoredDoc(str(user), f"d{place}", -float(place)) for user in range(5) for place in range(1, 31)]
    nDCG, R, Success, RR, AP = (getattr(ir_measures, name) for name in ("nDCG", "R", "Success", "RR", "AP"))
    oracle = {(str(one.measure), one.query_id): one.value for one in ir_measures.iter_calc([nDCG @ k, R @ k, Success @ k, RR, AP @ k], qrels, run_)}
    for user in range(5):
        here = ranks[user : user + 1]
        wanted = int((here > 0).sum())
        assert hits(here, k)[0] == oracle[f"Success@{k}", str(user)]
        assert recall(here, k)[0] == pytest.approx(oracle[f"R@{k}", str(user)])
        assert ndcg(here, k)[0] == pytest.approx(oracle[f"nDCG@{k}", str(user)])
        # trec_eval divides by all targets, also where the list is too short for them.
        assert average_precision(here, k)[0] == pytest.approx(oracle[f"AP@{k}", str(user)] * wanted / min(k, wanted))
        assert 1 / here[here > 0].min() == pytest.approx(oracle["RR", str(user)])


def test_with_one_target_the_metrics_are_functions_of_its_place():
    records, _ = run(random_rows(DRAW, 12, ITEMS), RecommendationMeasures(ITEMS, k=(1, 5, 10), chunk=16))
    place = records.ranks[:, 0]
    found = RecommendationMeasures(ITEMS, k=(1, 5, 10)).compute_all(records)
    assert found["hr_at_5"] == pytest.approx(np.mean(place <= 5))
    assert found["ndcg_at_10"] == pytest.approx(np.mean(np.where(place <= 10, 1 / np.log2(place + 1), 0)))
    assert found["mrr"] == pytest.approx(np.mean(1 / place))
    assert found["map_at_10"] == pytest.approx(np.mean(np.where(place <= 10, 1 / place, 0)))
    assert "recall_at_5" not in found


def test_batches_of_any_size_give_the_same_records():
    rows = random_rows(DRAW, 13, ITEMS, targets=3)
    one, other = run(rows, size=13)[0], run(rows, size=2)[0]
    for name, values in one.arrays().items():
        np.testing.assert_array_equal(values, other.arrays()[name], err_msg=name)


def test_what_is_said_of_lists_by_hand():
    records, _ = run([((1, 2), (3,)), ((4,), (5,))], RecommendationMeasures(ITEMS, k=(2,), chunk=16))
    counts = np.bincount(np.concatenate(TRAIN), minlength=ITEMS + 1)
    found = RecommendationMeasures(ITEMS, k=(2,)).compute_all(records)
    listed = records.items
    assert found["coverage_at_2"] == len(set(listed.ravel().tolist())) / ITEMS
    assert found["novelty_at_2"] == pytest.approx(np.mean(-np.log2((counts[listed] + 1) / (counts.sum() + ITEMS))), rel=1e-5)
    known = [(counts[1] + counts[2]) / 2, counts[4]]
    assert found["popularity_ratio_at_2"] == pytest.approx(counts[listed].mean(axis=1).sum() / sum(known), rel=1e-5)
    assert records.label_count.tolist() == [counts[3], counts[5]]
    assert records.known.tolist() == [2, 1]


def test_the_cold_slice_is_of_users_whose_next_item_has_few_events():
    rows = random_rows(DRAW, 40, ITEMS)
    measures = RecommendationMeasures(ITEMS, k=(10,), cold_below=1, chunk=16)
    records, _ = run(rows, measures)
    cold = records.label_count == 0
    assert 0 < cold.sum() < len(records)
    assert measures.compute_all(records)["cold_hr_at_10"] == pytest.approx(np.mean(records.best[cold] <= 10))
    assert RecommendationMeasures(ITEMS, k=(10,), cold_below=0).compute_all(records)["cold_hr_at_10"] == 0.0


def test_a_sampled_metric_says_so_in_its_name_and_speaks_of_no_lists():
    names = [metric.name for metric in metrics_of((1, 10), items=9, cold_below=5, sampled=99, several=False)]
    assert names[0] == "ndcg_at_10_sampled_99"
    assert all(name.endswith("_sampled_99") for name in names)
    assert not any(name.startswith(("coverage", "novelty", "popularity")) for name in names)


def test_the_main_metric_is_ndcg_at_10_or_at_the_largest_shorter_list():
    mains = [RecommendationMeasures(ITEMS, k=k).main for k in ((1, 5, 10, 20), (3, 7), (20, 50))]
    assert mains == ["ndcg_at_10", "ndcg_at_7", "ndcg_at_20"]
    with pytest.raises(ConfigError, match=r"unknown metric 'ndcg_at_11': did you mean 'ndcg_at_10'"):
        MEASURES.metric("ndcg_at_11")


def test_intervals_hold_their_values_and_differences_of_a_model_to_itself_are_none():
    records, _ = run(random_rows(DRAW, 30, ITEMS, targets=2))
    found = MEASURES.intervals(records, resamples=50)
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in found.values())
    assert found["coverage_at_10"]["low"] == found["coverage_at_10"]["high"]
    assert isinstance(MEASURES.metric("hr_at_5"), Proportion)
    assert MEASURES.difference(records, records, "ndcg_at_10", resamples=50) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_records_survive_the_disk(tmp_path):
    records, _ = run(random_rows(DRAW, 5, ITEMS, targets=2))
    write_records(tmp_path / "records.npz", records)
    back = read_records(tmp_path / "records.npz")
    assert MEASURES.compute_all(back) == MEASURES.compute_all(records)


def test_a_person_reads_where_the_item_stood_and_what_was_recommended():
    texts = tuple(f"title {number}" if number != 3 else "" for number in range(1, ITEMS + 1))
    records, split = run([((1, 2), (3,)), ((4,), (5,))], RecommendationMeasures(ITEMS, k=(1, 5), chunk=16), texts=texts)
    measures = RecommendationMeasures(ITEMS, k=(1, 5))
    told = measures.describe(records, 0, split)
    assert told["id"] == "u0"
    assert told["label"] == "i3"  # nobody says what it is called
    assert told["rank"] == records.ranks[0, 0]
    assert told["recommended"] == [f"title {item}" if item != 3 else "i3" for item in records.items[0]]
    assert split.show(0) == {"history": ["title 1", "title 2"], "known": 2, "target": "i3"}
    rows = measures.rows(records, split)
    assert rows[1]["id"] == "u1"
    assert [entry["item"] for entry in rows[1]["items"]] == [f"i{item}" for item in records.items[1]]
    assert {entry["id"] for entry in measures.errors(records, split, 24)} == {"u0", "u1"}


def test_the_tables_of_the_report_have_curves_and_hits_by_popularity():
    records, _ = run(random_rows(DRAW, 30, ITEMS))
    found = MEASURES.tables(records)["recommendation"]
    assert found["curves"]["k"] == list(range(1, 11))
    assert found["curves"]["hr"][9] == pytest.approx(MEASURES.compute_all(records)["hr_at_10"])
    assert found["curves"]["hr"] == sorted(found["curves"]["hr"])
    assert sum(entry["users"] for entry in found["popularity"]) == 30
    assert types.SimpleNamespace(**found["popularity"][0]).to == 0
