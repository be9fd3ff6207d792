from .conditioning import Conditioner as Conditioner
from .config import TrainConfig as TrainConfig
from .config import load_train_config as load_train_config
from .evaluation import evaluate as evaluate
from .inference import LoadedModel as LoadedModel
from .inference import generate as generate
from .inference import load_model as load_model
from .runs import read_metrics as read_metrics
from .stream import MixStream as MixStream
from .trainer import train as train

__version__: str
