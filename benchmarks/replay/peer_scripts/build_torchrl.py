"""Compile TorchRL's C++ part against the PyTorch beside it, from the sources in TorchRL's wheel.

The wheel's own was built for one version of PyTorch and does not load beside another; then
prioritized buffers are refused ("SumSegmentTreeFp32 is not available"). Run with the interpreter of
TorchRL's environment; needs a C++ compiler and ninja.
"""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path

from torch.utils.cpp_extension import load


def main():
    """Compile, and put the result in the place of the wheel's."""
    package = Path(sysconfig.get_path("purelib")) / "torchrl"
    (target,) = package.glob("_torchrl*.so")
    with tempfile.TemporaryDirectory() as folder:
        load(
            "_torchrl",
            [str(package / "csrc" / name) for name in ("pybind.cpp", "utils.cpp")],
            extra_cflags=["-O3", "-std=c++20"],
            build_directory=folder,
            is_python_module=False,
        )
        shutil.copy(Path(folder) / "_torchrl.so", target)


if __name__ == "__main__":
    main()
