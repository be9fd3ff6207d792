from .query_pool import Bounds as Bounds
from .request import Settings as Settings
from .server import Address as Address
from .server import run as run
