"""An example of every extension point of ixt."""
