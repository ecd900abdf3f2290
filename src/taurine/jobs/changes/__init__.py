"""What changes among jobs, told as it happens."""
