"""The claims' machinery itself: one program, and the identities that need no statistics."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from claims_parts import STEPS, agree, flat

from benchmarks.claims import arms, population
from ftjax.config import AnchorConfig, CoefficientConfig


def test_all_arms_share_one_program(people, trained):
    assert len(trained) == 14
    assert people.traces["train"] == 1


def test_a_tenth_of_c_is_a_tenth_of_the_learning_rate(trained):
    agree(trained["tenth"].params, trained["tenth_by_rate"].params, 1e-5)
    assert not np.allclose(trained["tenth"].params["stem"]["patch"]["kernel"], trained["full"].params["stem"]["patch"]["kernel"], atol=1e-5)


def test_the_same_cell_gives_the_same_weights_and_another_order_does_not(people, seeds, trained):
    again = people.train([(arms.FULL, 1e-3), (arms.FULL, 1e-2)], seeds)
    assert all(np.array_equal(one, other) for one, other in flat(again.params, trained["full"].params).values())
    assert not any(np.array_equal(one, other) for one, other in flat(trained["other_order"].params, trained["full"].params).values())


def test_a_probe_moves_the_head_alone_and_surgery_its_blocks(seeds, trained):
    live = {"probe": {"head"}, "last": {"norm", "head"}, "first": {"stem", "encoder/block_0"}}
    for name, groups in live.items():
        start = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), seeds.starts["pretrained"])
        for path, (one, other) in flat(trained[name].params, start).items():
            assert np.array_equal(one, other) != path.startswith(tuple(groups)), (name, path)


def test_forces_of_neutral_strength_change_nothing(network, seeds, trained):
    law = arms.law(network.groups)
    free = population.Population(STEPS, config=dataclasses.replace(law, anchor=AnchorConfig()), network=network)
    plain = free.train([(arms.FULL, 1e-3), (arms.FULL, 1e-2)], seeds)
    agree(plain.params, trained["full"].params, 1e-5)


def test_lp_ft_is_the_tables_own_schedule(network, seeds, trained):
    start = round(arms.LP_FT.rest * STEPS)
    rules = (("group:head", 1.0), ("group:.*", ((f"{start} steps", 0.0), (f"{start} steps", 1.0))))
    config = dataclasses.replace(arms.law(network.groups), coefficient=CoefficientConfig(rules=rules, phases="arithmetic"))
    scheduled = population.Population(STEPS, config=config, network=network)
    one = jax.device_get(_train_by_table(scheduled, seeds, config))
    agree(jax.tree.map(lambda leaf: leaf[0], trained["lp_ft"].params), one, 1e-5)


def _train_by_table(people, seeds, config):
    """Seed 0 of the first cell, with the hyperparameters exactly as the configuration gives them."""
    from ftjax.coefficients import default_hyper
    from ftjax.training.state import create_state

    images, labels = jnp.asarray(seeds.images[0]), jnp.asarray(seeds.labels[0])

    def advance(state, rows):
        batch = {"image": images[rows], "label": labels[rows], "weight": jnp.ones(rows.shape), "id": rows}
        return people.step(state, batch, default_hyper(config))[0], None

    theta0 = jax.tree.map(lambda leaf: leaf[0], seeds.starts["pretrained"])
    state = create_state(theta0, {}, people.table.live_paths, people.optimizer)
    return jax.jit(lambda state: jax.lax.scan(advance, state, jnp.asarray(seeds.orders[0, 0]))[0])(state).params


def test_anchors_shorten_the_way(trained):
    far = trained["full"].travel
    assert all((trained[name].travel < far).all() for name in ("l2_sp", "ball", "layer_decay", "tenth"))
    assert (trained["ball"].travel <= arms.BALL.ball + 0.2).all()
    assert not trained["probe"].travel.any()


def test_every_force_is_at_its_configured_strength(network):
    hyper = arms.hyper(dataclasses.replace(arms.BALL, pull=2.0, select=0.5), 1e-3, network.groups)
    assert [float(hyper[name]) for name in ("ball", "pull", "select")] == pytest.approx([arms.BALL.ball, 2.0, 0.5])
    assert float(arms.hyper(arms.FULL, 1e-3, network.groups)["ball"]) == math.inf


def test_half_of_the_displacement_is_evaluated_halfway(people, seeds, trained):
    from benchmarks.claims.digits import Digits

    known = Digits(seeds.images, seeds.labels)
    start = seeds.starts["pretrained"]
    ends = [people.evaluate(trained["full"].params, start, alpha, known) for alpha in (0.0, 1.0)]
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), start)
    np.testing.assert_array_equal(ends[0], people.evaluate(twice, start, 1.0, known))
    assert ends[1].shape == (2, 2)
    assert (ends[1] >= ends[0]).all()
