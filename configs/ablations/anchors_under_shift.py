"""What holds the weights near their pretrained values, in distribution and on changed copies of the test pictures; rates tuned for each.

python -m ftjax.main ablate --ablation configs/ablations/anchors_under_shift.py \\
  --config configs/quickstart.py --config.train.duration='300 steps' --workdir runs/anchors
"""

from ftjax.ablation import Ablation, Arm, Axis, Times

ARMS = (
    Arm(name="free", settings={}),
    Arm(name="pull 0.1", settings={"anchor.pull": 0.1}),
    Arm(name="pull 10", settings={"anchor.pull": 10.0}),
    Arm(name="ball 1%", settings={"anchor.ball": 0.01}),
    Arm(name="ball 5%", settings={"anchor.ball": 0.05}),
    Arm(name="select 1", settings={"anchor.select": 1.0}),
)


def get_ablation() -> Ablation:
    tune = (Axis("optimizer.learning_rate", tuple(map(Times, (0.3, 1.0, 3.0, 10.0)))),)
    return Ablation(arms=ARMS, tune=tune, seeds=tuple(range(5)), shifts=("noise", "contrast", "blur"), reference="free")
