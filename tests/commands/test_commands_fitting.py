"""What `check` says of memory: whose limit counts, what is compiled to compare, and what it proposes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ftjax import configuration
from ftjax.commands import fitting
from ftjax.commands.fitting import Cost, Limit
from ftjax.config import Config, DataConfig, EvaluationConfig, ModelConfig, TaskConfig, TrainConfig
from ftjax.errors import ConfigError
from ftjax.main import main
from ftjax.training.prepare import prepare

LIMIT = Limit(1000, "--memory 1000")


def plan_of(config: Config, batch_size: int = 16, devices: int = 1) -> SimpleNamespace:
    return SimpleNamespace(config=config, batch_size=batch_size, mesh=SimpleNamespace(shape={"data": devices, "fsdp": 1}))


@pytest.mark.parametrize(("text", "size"), [("16GiB", 16 * 2**30), ("500MB", 500 * 10**6), ("1.5g", 1_500_000_000), (" 2 ki ", 2048), ("77", 77)])
def test_a_size_is_read_with_its_unit(text, size):
    assert fitting.limit_of(text) == Limit(size, f"--memory {text}")


@pytest.mark.parametrize("text", ["much", "-3GB", "0", "1.2.3GB", "16 parsecs"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="is no size; allowed: a number with a unit, such as 16GiB or 500MB"):
        fitting.limit_of(text)


def test_without_a_word_it_is_the_device_or_this_machine():
    limit = fitting.limit_of(None)
    assert limit.bytes > 2**28
    assert "this machine's memory" in limit.why


def test_what_is_worth_compiling(monkeypatch):
    monkeypatch.setattr(fitting.distribution, "batch_devices", lambda mesh: mesh.shape["data"])
    remat = [{"model.remat": "dots"}, {"model.remat": "blocks"}]
    narrow = [{"model.precision": "bfloat16"}]
    assert fitting.alternatives(plan_of(Config()), fits=True) == [*remat, {"train.microbatches": 2}, *narrow]
    parts = [{"train.microbatches": count} for count in (2, 4, 8)]
    assert fitting.alternatives(plan_of(Config()), fits=False) == [*parts, *remat, *narrow]
    assert fitting.alternatives(plan_of(Config(), devices=8), fits=False) == [parts[0], *remat, *narrow], "every part is spread over all devices"
    chosen = Config(model=ModelConfig(remat=True, precision="bfloat16"), train=TrainConfig(microbatches=4))
    assert fitting.alternatives(plan_of(chosen), fits=False) == parts[2:]
    whole = Config(task=TaskConfig(name="sentence_embedding"))
    assert fitting.alternatives(plan_of(whole), fits=False) == [*remat, *narrow], "a batch in parts is another loss"


def test_larger_numbers_of_parts_are_compiled_only_while_smaller_ones_do_not_fit_and_there_is_time(monkeypatch):
    sizes = {1: 1600, 2: 1200, 4: 900, 8: 700}
    asked: list[fitting.Settings] = []

    def compiled(plan, stage, batch, settings):
        asked.append(settings)
        return Cost(100, sizes[settings.get("train.microbatches", 1)] - 100, 1.0)

    monkeypatch.setattr(fitting, "compiled", compiled)
    parts = [{"train.microbatches": count} for count in (2, 4, 8)]
    found = fitting.compared(None, None, {}, [*parts, {"model.remat": "dots"}], LIMIT, seconds=60)
    assert asked == [*parts[:2], {"model.remat": "dots"}]
    assert fitting.proposal(found, LIMIT) == "set train.microbatches=4, with which it takes 900 B".replace("900 B", "0.0009 MB")
    rows = fitting.rows_of(Cost(100, 1500, 2.0), found, LIMIT)
    assert rows[0] == ("as configured", "0.0016 MB", "0.0015 MB", "1.00", "no, 160.0%")
    assert rows[2] == ("train.microbatches=4", "0.0009 MB", "0.0008 MB", "-", "yes, 90.0%")
    assert rows[3][3] == "0.50"
    assert fitting.compared(None, None, {}, parts, LIMIT, seconds=-1) == []
    assert "none of the alternatives above fits either; allowed: " in fitting.proposal([({"model.remat": "dots"}, Cost(1, 5000, 1.0))], LIMIT)
    assert fitting.proposal([({"model.remat": "dots"}, Cost(1, 500, 1.0))], LIMIT).startswith("set model.remat=dots, with which")


def test_a_step_that_does_not_fit_is_not_run_and_ends_the_command(capsys):
    flags = ["--config.data.labels_per_class=4", "--config.train.duration=2 steps", "--config.mesh.data=1", "--config.mesh.tensor=8"]
    assert main(["check", "--config", "configs/quickstart.py", "--memory", "3MB", "--alternatives", "0", *flags]) == 2
    said = " ".join("".join(capsys.readouterr()).split())
    assert "not measured: it does not fit" in said
    assert "MB and a device has 3 MB (--memory 3MB): none of the alternatives above fits either" in said


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_parts_of_a_batch_and_remat_need_less_memory():
    config = Config(
        model=ModelConfig(pretrained="builtin:digits"),
        data=DataConfig(source="digits", fraction=0.2),
        train=TrainConfig(duration="2 steps", batch_size=64),
        evaluation=EvaluationConfig(baselines=()),
    )
    plan, _ = prepare(configuration.resolve(None, {}, config))
    stage, batch = plan.stages[0], plan.host_batch(0)
    whole, parts, dots, blocks = (
        fitting.compiled(plan, stage, batch, settings) for settings in ({}, {"train.microbatches": 4}, {"model.remat": "dots"}, {"model.remat": "blocks"})
    )
    assert parts.temporary < 0.6 * whole.temporary
    assert blocks.temporary < dots.temporary < whole.temporary
    assert whole.flops < dots.flops < blocks.flops
