from .callbacks import HookCallback as HookCallback
from .callbacks import MetricsCallback as MetricsCallback
from .compiled_layers import compile_layers as compile_layers
from .process import reuse_freed_memory as reuse_freed_memory
from .training import train as train
