"""Good prose and good code, for tests of the rules."""

PROSE = """The harbour was built in the third year of the war, when the old quay had fallen into \
the sea and no ship of any size could lie there with safety. It was made of stone from the hills \
behind the town, and the carts that brought it down went to and fro without rest for two summers.
When the work was done, the master of the port asked that a lamp be kept on the outer wall, and \
it was for this that the widow Hanne was given the small house which stands there still. She kept \
the lamp for forty years. In all that time it went out only once, on the night of the great storm, \
and no one blamed her for it.
What is known of her now is mostly invented. She did not speak to the gulls, nor did she keep a \
list of every boat that passed. She was a woman with a hard task who did it well. Her letters, \
which are in the archive of the town, are about oil, and wicks, and the price of glass.
"""


MODULE = '''"""Distances between points, for the map view."""

import math


def distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    """The straight line between two points, in the unit of the map."""
    # hypot does not overflow where the squares would
    return math.hypot(first[0] - second[0], first[1] - second[1])


class Route:
    """A way through some points."""

    def __init__(self, points: list[tuple[float, float]]) -> None:
        self.points = points

    def length(self) -> float:
        """The length of the whole way, zero for fewer than two points."""
        total = 0.0
        for start, end in zip(self.points, self.points[1:]):
            total += distance(start, end)
        return total

    def nearest(self, place: tuple[float, float]) -> tuple[float, float]:
        """The point of the way that is nearest to a place."""
        return min(self.points, key=lambda point: distance(point, place))

    def reversed(self) -> "Route":
        """The same way from its end."""
        return Route(list(reversed(self.points)))

    def closed(self) -> bool:
        """Whether the way ends where it began."""
        return bool(self.points) and self.points[0] == self.points[-1]
'''
