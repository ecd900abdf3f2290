"""Live streams of changes: server-sent events and WebSockets, from one source a process."""
