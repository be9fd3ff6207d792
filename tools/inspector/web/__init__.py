"""`ixt serve`: one store in a browser. Pages are rendered here and need nothing from elsewhere."""
