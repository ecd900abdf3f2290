"""`taurine demo`, also `python -m taurine.demo`: a support desk at work, with real parts.

Each ticket is triaged by a pipeline and its team told by a letter; all of them are exported as CSV meanwhile. Half-way
a worker is killed, at a moment when the mail server has taken letters of it and not yet said so. One ticket cannot be
read: its job fails for good, and is redriven after a fix. A job is cancelled while it runs, some are enqueued twice,
and a report comes by itself. In the end the mail server and the business database, which know nothing of jobs, are
asked what they have.

    command.py    the command: options, signals, exit code; __main__.py runs it
    story.py      what happens, in order: triaging.py, mending.py; gathering.py asks the witnesses
    verdict.py    what must hold in the end: the table   looking_around.py  commands that show more   api.py  the HTTP API

    desk.py       the application: its job types         app.py      the same, for the command line
    triage.py     the pipeline of a ticket               exporting.py  the CSV export with its cursor
    office.py     what handlers work with: tickets.py, the business database, and mailing.py, letters that are sent once
    texts.py      what the tickets say                   places.py   the files of a home

    worker.py     a process that runs jobs               mailserver.py  one that takes letters, into mailbox.py
    children.py   starting and ending the processes      lifeline.py how they end with the one that started them
    display.py    lines, progress bars, table            waiting.py  waiting for something to happen
"""
