"""The examples of docs/other-trainers.md by name."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "other-trainers.md"
EXAMPLES = {
    found[1]: found[2]
    for found in re.finditer(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
}
