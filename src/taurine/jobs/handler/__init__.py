"""What a handler is given beside its payload."""
