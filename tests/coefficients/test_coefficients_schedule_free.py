"""Schedule-free: optax's own numbers with a traced learning rate, the average to evaluate at, and clear words for what does not compose."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import trees
from ftjax.coefficients import check_composes, evaluation_params
from ftjax.config import AfterConfig, AnchorConfig, Config, OptimizerConfig
from ftjax.errors import ConfigError


def run(link: object, params: dict, hyper: dict, steps: int = 20) -> tuple[dict, object]:
    """Live parameters and state after some steps on a noisy quadratic."""
    noise = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), (steps, *leaf.shape)), params)

    @jax.jit
    def train(params: dict, hyper: dict, noise: dict) -> tuple[dict, object]:
        def step(carry: tuple, numbered: tuple) -> tuple:
            (live, state), (index, noise) = carry, numbered
            gradients = jax.tree.map(lambda theta, n: theta - 1 + n.astype(theta.dtype), live, noise)
            updates, state = link.update(gradients, state, live, step=index, hyper=hyper)
            return (jax.tree.map(jnp.add, live, updates), state), None

        return jax.lax.scan(step, (params, link.init(params)), (jnp.arange(steps), noise))[0]

    return train(params, hyper, noise)


def decayed(params: dict) -> dict:
    return trees.map_with_path(lambda path, leaf: path.endswith("kernel"), params)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_it_is_optax_schedule_free_and_is_evaluated_at_the_average(law, name: str) -> None:
    the = law(name=name, schedule_free=True, clip_norm=float("inf"), warmup="5 steps")
    rates = jnp.minimum((jnp.arange(21) + 1) / 6, 1) * 0.01
    core = optax.scale_by_adam(0.0) if name == "adamw" else optax.identity()

    def schedule(count: jax.Array) -> jax.Array:
        return rates[count]

    base = optax.chain(core, optax.add_decayed_weights(0.1, decayed), optax.scale_by_learning_rate(schedule))
    # optax counts the wrapper's steps from 1 and the base's from 0; ours has one clock.
    theirs = optax.contrib.schedule_free(base, lambda count: rates[count - 1], b1=0.9)
    reference = optax.GradientTransformationExtraArgs(theirs.init, lambda g, s, p, **_: theirs.update(g, s, p))
    live, state = run(the.link(), the.params, the.hyper)
    expected, expected_state = run(reference, the.params, the.hyper)
    average = trees.flatten(evaluation_params(state, live, the.hyper))
    for path, leaf in trees.flatten(live).items():
        np.testing.assert_allclose(leaf, trees.flatten(expected)[path], atol=4e-6, err_msg=path)
    for path, leaf in trees.flatten(optax.contrib.schedule_free_eval_params(expected_state, expected)).items():
        np.testing.assert_allclose(average[path], leaf, atol=4e-6, err_msg=path)
        assert np.any(np.abs(average[path] - trees.flatten(live)[path]) > 1e-4), path


def test_the_average_is_that_of_the_iterates_at_a_constant_rate(law) -> None:
    """By the paper's recursion in numpy: x' = (1 - 1/t) x + z'/t."""
    the = law(name="sgd", schedule_free=True, weight_decay=0.0, clip_norm=float("inf"), beta1=0.8)
    theta = {"norm": {"scale": the.params["norm"]["scale"]}}
    live, state = run(the.link(), theta, the.hyper, steps=12)
    x = z = y = np.asarray(theta["norm"]["scale"], np.float64)
    noise = np.asarray(jax.random.normal(jax.random.key(3), (12, 3)))
    for step in range(12):
        z = z - 0.01 * (y - 1 + noise[step])
        x = x + (z - x) / (step + 1)
        y = 0.2 * z + 0.8 * x
    np.testing.assert_allclose(live["norm"]["scale"], y, atol=1e-6)
    np.testing.assert_allclose(evaluation_params(state, live, the.hyper)["norm"]["scale"], x, atol=1e-6)


def test_any_other_chain_is_evaluated_where_it_is(law) -> None:
    the = law()
    assert evaluation_params(the.link().init(the.params), the.params, the.hyper) is the.params


def test_before_the_first_step_the_average_is_theta0_and_holes_stay_holes(law) -> None:
    the = law(schedule_free=True)
    live = the.params | {"head": {"kernel": None, "bias": None}}
    average = evaluation_params(the.link().init(live), live, the.hyper)
    assert jax.tree.structure(average) == jax.tree.structure(live)
    for path, leaf in trees.flatten(average).items():
        np.testing.assert_allclose(leaf, trees.flatten(live)[path], atol=1e-6)


def test_a_coefficient_of_0_freezes_bit_for_bit(law) -> None:
    the = law(schedule_free=True, rules=(("head/.*", 1.0), ("stem/.*", 1.0), (".*", (("0%", 1.0), ("50%", 1.0), ("50%", 0.0)))))
    hyper = the.hyper | {"coefficient": (jnp.array(1.0), jnp.array(0.0), jnp.array(1.0))}
    start, half, end = trees.flatten(the.params), the.train(steps=10, hyper=hyper), the.train(steps=20, hyper=hyper)
    for path, leaf in end.items():
        assert np.array_equal(leaf, half[path]) != path.startswith("head"), path
        assert np.array_equal(leaf, start[path]) == path.startswith("stem"), path


def test_a_population_over_rate_and_beta_equals_the_loop_in_one_trace(law) -> None:
    the = law(schedule_free=True, warmup="10%")
    traces = []

    def average(hyper: dict) -> dict:
        traces.append(1)
        live, state = run(the.link(), {"norm": the.params["norm"], "head": the.params["head"]}, hyper, steps=8)
        return trees.flatten(evaluation_params(state, live, hyper))

    varied = {"learning_rate": jnp.array([0.01, 0.1]), "beta1": jnp.array([0.5, 0.95])}
    together = jax.jit(jax.vmap(average))(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 2), the.hyper) | varied)
    assert len(traces) == 1
    alone = jax.jit(average)
    for index in range(2):
        for path, leaf in alone(the.hyper | {name: values[index] for name, values in varied.items()}).items():
            np.testing.assert_allclose(together[path][index], leaf, atol=2e-5, err_msg=path)


def test_the_weights_of_the_average_are_summed_in_float32_for_bfloat16_leaves(law) -> None:
    the = law(schedule_free=True, dtype=jnp.bfloat16)
    live, state = run(the.link(), the.params, the.hyper)
    assert float(state.weight_sum) == pytest.approx(20 * 0.01**2, rel=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves((live, state.z))} == {jnp.dtype(jnp.bfloat16)}


FREE = OptimizerConfig(schedule_free=True, schedule="constant")


@pytest.mark.parametrize(
    ("config", "phases", "message"),
    [
        (Config(optimizer=FREE, anchor=AnchorConfig(ball=0.1)), 1, r"anchor.ball: a retraction would hold y, .* use anchor.pull"),
        (Config(optimizer=FREE, anchor=AnchorConfig(select=1.0)), 1, r"anchor.select: .* use anchor.pull"),
        (Config(optimizer=dataclasses.replace(FREE, name="lion")), 1, r"optimizer.name='lion': .* use 'adamw' or 'sgd'"),
        (Config(optimizer=dataclasses.replace(FREE, name="muon")), 1, r"optimizer.name='muon'"),
        (Config(optimizer=dataclasses.replace(FREE, name="adafactor")), 1, r"optimizer.name='adafactor'"),
        (
            Config(optimizer=dataclasses.replace(FREE, schedule="cosine")),
            1,
            r"optimizer.schedule='cosine': .* set optimizer.schedule='constant' \(warmup stays\)",
        ),
        (Config(optimizer=dataclasses.replace(FREE, beta1=0.0)), 1, r"optimizer.beta1=0: .* above 0"),
        (Config(optimizer=FREE), 2, r"parameters that start to train later: .* set coefficient.phases='arithmetic'"),
        (Config(optimizer=FREE, after=AfterConfig(candidates=("swa", "wise_ft"))), 1, r"after.candidates \['swa'\]: its weights are an average already"),
    ],
)
def test_what_does_not_compose_is_refused_with_the_way_out(config: Config, phases: int, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^optimizer.schedule_free does not compose with {message}"):
        check_composes(config, phases)


def test_everything_else_composes() -> None:
    check_composes(Config(optimizer=dataclasses.replace(FREE, sam=0.05), anchor=AnchorConfig(pull=1.0, mixout=0.5), after=AfterConfig(candidates=("wise_ft",))))
    for name in ("adamw", "sgd", "lion", "muon", "adafactor"):
        held = AnchorConfig(pull=1.0, ball=0.1, select=1.0, mixout=0.5)
        check_composes(Config(optimizer=OptimizerConfig(name=name, sam=0.05), anchor=held, after=AfterConfig(candidates=("ema", "swa"))), phases=4)
