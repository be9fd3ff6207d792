"""Rubrics that critics apply."""
