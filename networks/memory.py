"""What a network remembers of an episode: an LSTM between torso and heads, as IMPALA's agents have.

(Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, figure 3; theirs is also given the last
action and reward, this one sees the features alone.) A memory is M = 2W numbers for each
environment, output and cell of the LSTM side by side; all zeros where an episode begins.

Shape suffixes:
    Q  environments, or sequences
    T  consecutive steps of each
    F  features: width of the torso's last hidden layer
    W  width of the LSTM
    M  numbers of one memory
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """One LSTM layer; computes in float32 even where the torso does not."""

    def __init__(self, num_inputs: int, width: int) -> None:
        """Build it with PyTorch's default initialisation."""
        super().__init__()
        self.lstm = nn.LSTM(num_inputs, width, batch_first=True)
        self.width = width

    def begin(self, num_envs: int) -> Tensor:
        """The memory_QM of as many episodes at their beginning."""
        return next(self.parameters()).new_zeros(num_envs, 2 * self.width)

    def forward(self, features_QTF: Tensor, memory_QM: Tensor) -> tuple[Tensor, Tensor]:
        """(outputs_QTW of consecutive steps of one episode each, memory_QM after the last)."""
        output_1QW, cell_1QW = (part.contiguous() for part in memory_QM[None].chunk(2, 2))
        with torch.autocast(features_QTF.device.type, enabled=False):
            outputs_QTW, (output_1QW, cell_1QW) = self.lstm(
                features_QTF.float(), (output_1QW, cell_1QW)
            )
        return outputs_QTW, torch.cat([output_1QW[0], cell_1QW[0]], 1)

    def unroll(
        self, features_QTF: Tensor, after_QF: Tensor, memory_QM: Tensor, num_steps_Q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs of sequences of an episode each, and of the observation after their last step.

        Args:
            features_QTF: what lies behind a sequence's last step has no meaning, nor have its
                outputs.
            after_QF: features of the observation after the last step.
            memory_QM: before the first step.
            num_steps_Q: int64, steps of each sequence, 1 to T.

        Returns:
            (outputs_QTW, output_after_QW).
        """
        rows_Q = torch.arange(len(num_steps_Q), device=num_steps_Q.device)
        longer_QTF = torch.cat([features_QTF, after_QF.unsqueeze(1)], 1)
        longer_QTF[rows_Q, num_steps_Q] = after_QF
        outputs_QTW, _ = self(longer_QTF, memory_QM)
        return outputs_QTW[:, :-1], outputs_QTW[rows_Q, num_steps_Q]
