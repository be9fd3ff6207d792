from .compaction import compact as compact
from .compaction import group_mergeable as group_mergeable
from .compaction import rewrite as rewrite
from .garbage_collection import collect_garbage as collect_garbage
from .verification import repair as repair
from .verification import verify as verify
