"""The durable record of jobs in SQL. It knows nothing of Redis."""
