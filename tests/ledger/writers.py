"""Writers that die: forked from a process that has imported everything.

Run as a program, it reads lines `url first`: a child then puts in records `job-<first>`, `job-<first + 1>`, …, ten a
transaction, and writes the number of each once it is committed, until it is killed. Its first line is its process id;
after its death the line `dead` follows.
"""

from __future__ import annotations

import asyncio
import os
import sys

from sqlalchemy import Connection

from ledger.writing import new_record
from taurine.ledger.database import open_database
from taurine.ledger.records import insert_records

TOGETHER = 10
"""Records of one transaction, with three tags each."""


async def _write(url: str, number: int) -> None:
    database = open_database(url)
    while True:
        records = [
            new_record(
                f"job-{number + offset}", tags=("one", "two", "three"), created_by="ann", payload='"' + "x" * 500 + '"'
            )
            for offset in range(TOGETHER)
        ]

        def put(connection: Connection, records: list = records) -> None:
            insert_records(connection, records)

        await database.write(put)
        number += TOGETHER
        os.write(sys.stdout.fileno(), f"{number}\n".encode())  # in one piece, or not at all


if __name__ == "__main__":
    for line in sys.stdin:
        url, first = line.split()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            print("dead", flush=True)
            continue
        try:
            print(os.getpid(), flush=True)
            asyncio.run(_write(url, int(first)))
        finally:
            os._exit(1)
