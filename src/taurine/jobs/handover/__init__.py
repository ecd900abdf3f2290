"""Between record and queue: which queue copy belongs to which record, adding it, and taking it out again."""
