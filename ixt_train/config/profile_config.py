"""Settings of the profiler."""

from typing import Self

from pydantic import PositiveInt, model_validator

from ixt_data.config import ConfigModel


class ProfileConfig(ConfigModel):
    """A trace of some steps by torch.profiler, in `profile/` of the run folder."""

    steps: tuple[PositiveInt, PositiveInt]
    """First and last step of the trace; the first steps of a train run are not typical."""
    memory: bool = False
    """Record the memory of tensors, too."""
    stacks: bool = False
    """Record the Python code of each operation, which makes steps slower."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"steps: {self.steps[0]} is after {self.steps[1]}")
        return self
