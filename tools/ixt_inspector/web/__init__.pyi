from .query_pool import QueryLimits as QueryLimits
from .request import Settings as Settings
from .server import ServerAddress as ServerAddress
from .server import run_server as run_server
