from .callbacks import HookCallback as HookCallback
from .callbacks import MetricsCallback as MetricsCallback
from .compiled_layers import compile_layers as compile_layers
from .process import reuse_freed_memory as reuse_freed_memory
from .sweep import run_sweep as run_sweep
from .sweep import sweep_rows as sweep_rows
from .training import train as train
