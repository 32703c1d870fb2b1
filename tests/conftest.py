"""What holds for every test: no network, one thread."""

import os

# Before torch or transformers is imported. One thread: the sums of two runs come out in the same order,
# and the processes of pytest-xdist do not fight over the cores.
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

from hypothesis import HealthCheck, settings

# Machines differ in speed: no test fails for its time. The examples are the same in every run.
settings.register_profile(
    "foveate",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("foveate")
