"""What there is to say of the learner's GPU."""

from __future__ import annotations

import torch


def device_figures(device: torch.device) -> dict[str, float]:
    """Memory and use of a GPU; empty for a CPU.

    How busy it is, is known only where the package nvidia-ml-py is installed.
    """
    if device.type != "cuda":
        return {}
    figures = {"gpu/memory_bytes": float(torch.cuda.memory_reserved(device))}
    try:
        figures["gpu/busy"] = torch.cuda.utilization(device) / 100.0
    # Of many kinds: no package, no driver, a GPU that does not tell. None may end the run.
    except Exception:
        return figures
    return figures
