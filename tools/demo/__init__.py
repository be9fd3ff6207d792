"""`ixt demo`: the whole way of the data, and the effect, in minutes on two cores."""
