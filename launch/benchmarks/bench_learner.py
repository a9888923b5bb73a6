"""Learning: a learner's samples per second against forward, backward and optimizer alone.

    bound = batch size / (forward + backward + optimizer step on a batch that is loaded already)

The learner takes real play out of a replay in this process and sends priorities back to it. It
also loads batches, clips gradients, keeps metrics and publishes weights; drawing the batches is
reported and not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from launch.benchmarks.bench_setup import BenchSetup, play, without_pacing
from launch.benchmarks.bench_timing import Part, Result, Window, measure_rounds, medians, timed
from launch.recipe import MultitaskRecipe, build_learner, build_shard
from learner.batch import DeviceBatch
from learner.learner import Learner
from learner.losses import policy_mimic_loss
from learner.optim import build_optimizer
from networks.masking import legal_matrix
from networks.student import MultitaskStudent
from networks.weights import LocalWeights
from replay.client import LocalReplayClient
from replay.types import SampleBatch
from games.spec import get_game
