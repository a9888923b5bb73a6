"""A run on Ray: every role a process, started, watched and replaced."""

import os

# Before anything imports Ray, which reads it once. Under `uv run` Ray would else start every worker
# by another `uv run`, which installs the project anew and never comes up.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
