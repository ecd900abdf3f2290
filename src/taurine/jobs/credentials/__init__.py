"""Who may call from outside: keys, admins, sessions, and public tokens of one use."""
