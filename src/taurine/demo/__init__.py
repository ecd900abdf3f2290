"""`python -m taurine.demo`: a real input through an application with records, in three acts.

Each Python file of the standard library is one job; a worker counts its lines, functions, classes and imports. Half-way a worker is killed. Then a job fails
for good and is mended, another one is cancelled. In the end the server of queues loses everything.

    __main__.py   the command: options, signals, exit code
    story.py      what happens, in order: indexing.py, operating.py, losing.py
    verdict.py    what must hold in the end
    producer.py   a process that enqueues the jobs      worker.py   a process that runs them
    stage.py      what the processes must agree on: the application and its job types
    library.py    which files                           counts.py   what is counted in one
    children.py   starting and ending the processes     lifeline.py how they end with the one that started them
    journal.py    who ran what, written down outside of the application
    display.py    lines, progress bar, table
"""
