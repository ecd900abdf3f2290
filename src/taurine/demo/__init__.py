"""`python -m taurine.demo`: a real input through a queue, with one worker killed half-way.

Each Python file of the standard library is one job; a worker counts its lines, functions, classes and imports.

    __main__.py   the command: options, signals, exit code
    story.py      what happens, in order
    verdict.py    what must hold in the end
    producer.py   a process that adds the jobs          worker.py   a process that runs them
    stage.py      what the processes must agree on
    library.py    which files                           counts.py   what is counted in one
    children.py   starting and ending the processes     lifeline.py how they end with the one that started them
    journal.py    who ran what, written down outside the queue
    display.py    lines, progress bar, table
"""
