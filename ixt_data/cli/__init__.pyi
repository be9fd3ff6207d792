from . import transfer_verbs as transfer_verbs
from .app import build as build
from .app import main as main
from .options import DEFAULT_STORE as DEFAULT_STORE
from .options import AtOption as AtOption
from .options import OutputOption as OutputOption
from .options import StoreOption as StoreOption
