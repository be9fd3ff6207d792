from .callbacks import HookCallback as HookCallback
from .process import reuse_freed_memory as reuse_freed_memory
from .training import train as train
