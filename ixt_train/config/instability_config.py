"""Settings for steps whose loss is not finite or far above the losses before it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from ixt_data.config import ConfigModel


class InstabilityConfig(ConfigModel):
    """Unstable steps: an update is skipped, or the train run ends with an error."""

    non_finite: Literal["stop", "skip"] = "stop"
    """A step whose loss is not finite: `stop` ends the train run, `skip` drops its update."""
    spike: Annotated[float, Field(gt=0)] | None = None
    """Drop the update of a step whose loss is more than this number of standard deviations above
    the mean of the 128 steps before; null drops none."""
    rewind: PositiveInt | None = None
    """Resume from the last checkpoint instead, and drop the updates of this number of steps, up to
    the unstable one; null drops only the update of that step."""
    max_skipped: PositiveInt = 10
    """Steps in a row that may be dropped, or rewinds, before the train run ends."""
