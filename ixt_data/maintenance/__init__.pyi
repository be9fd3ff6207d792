from .compaction import by_lane as by_lane
from .compaction import compact as compact
from .compaction import rewrite as rewrite
from .garbage_collection import collect as collect
from .verification import repair as repair
from .verification import verify as verify
