"""What is told of jobs: log lines, errors as they are kept, alerts; and what must not be shown in them."""
