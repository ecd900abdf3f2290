"""One delivery of one job, from the claim to the settled record."""
