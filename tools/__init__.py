"""Uses both packages; nothing imports it."""
