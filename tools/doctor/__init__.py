"""`ixt doctor`: whether this machine has what ixt needs, and how to mend what it lacks."""
