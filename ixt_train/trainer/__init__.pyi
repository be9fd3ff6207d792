from .callbacks import HookCallback as HookCallback
from .training import train as train
