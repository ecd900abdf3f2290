"""What operators ask of jobs, and do to them."""
