"""The machine as far as it decides how results are rounded."""

import platform

import torch
from threadpoolctl import threadpool_info


def kind_of_processor() -> str:
    """Return what two machines share if they round alike: architecture, vector units, GPU.

    Equal parameters give equal bytes on one kind. On another one training amplifies the rounding,
    so that its results are those of another seed.
    """
    blas = sorted({pool["architecture"] for pool in threadpool_info() if "architecture" in pool})
    kind = [platform.machine(), torch.backends.cpu.get_cpu_capability(), *blas]
    if torch.cuda.is_available():
        kind.append(torch.cuda.get_device_name())
    return ", ".join(kind)
