"""One thread in every test: networks are so small that more would wait for each other."""

import os

# Before anybody imports torch, which looks at it then.
os.environ.setdefault("OMP_NUM_THREADS", "1")
