"""Job types, their enqueueing, and the runtime that executes them: what stands between the application and the queue
and ledger.
"""
