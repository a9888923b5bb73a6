"""What holds for every test, however the tests are started."""

import os
import signal

# Networks are so small that more threads would wait for each other. Before anybody imports torch,
# which looks at it then.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background, and nohup, have SIGINT ignored, and every process
# that a test starts and interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
