"""What a plan is asked for beside the run's own options; imports nothing that is slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt

# Dense products in bfloat16 or float16, TFLOP/s, from the makers' data sheets.
PEAK_TFLOPS = {
    "T4": 65,
    "V100": 125,
    "A10G": 70,
    "L4": 121,
    "L40S": 362,
    "A100": 312,
    "H100": 989,
    "H200": 989,
}
# Most steps of a plan, more than anybody plays: a year has 3e7 seconds.
_MAX_STEPS = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a run would come to; all options of launch/multitask.py are taken as well."""

    target_steps: Annotated[int, Ge(1)] | None = None
    """Steps that are wanted; without, the run's num_steps."""
    cluster: Path | None = None
    """cluster.yaml of `ray up`, or a RayCluster of KubeRay."""
    gpu: str = ""
    """The learner's GPU, there: T4, V100, A10G, L4, L40S, A100, H100 or H200."""
    learner_samples_per_s: Annotated[float, Gt(0)] | None = None
    """What one learner does there, if you have measured it (bench.py learner)."""
    cpu_speed: Annotated[float, Gt(0)] = 1.0
    """Speed of one CPU of the cluster over one core of this machine."""
    network_gbit_s: Annotated[float, Gt(0)] | None = None
    """Network of the head; without, no limit."""
    probe_s: Annotated[float, Gt(0)] = 40.0
    """Length of the measurement."""
    json: bool = False
    """Print one JSON object instead."""

    def __post_init__(self) -> None:
        """Refuse a GPU that nothing is known of."""
        if self.gpu and self.gpu not in PEAK_TFLOPS:
            raise ValueError(
                f"nothing is known of a GPU {self.gpu!r}; choose among {', '.join(PEAK_TFLOPS)}, "
                "or give --learner-samples-per-s"
            )

    def steps(self, num_steps: int) -> int:
        """Steps to plan for; ValueError for more than anybody plays."""
        steps = self.target_steps or num_steps
        if steps > _MAX_STEPS:
            raise ValueError(f"a plan is of at most {_MAX_STEPS:.0e} steps, got {steps}")
        return steps
