from .callbacks import Watch as Watch
from .training import train as train
