"""Job types: how they are declared, and what may be said of one enqueue."""
