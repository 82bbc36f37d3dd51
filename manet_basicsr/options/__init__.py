"""Option files: reading, changing, checking and resolving them."""
