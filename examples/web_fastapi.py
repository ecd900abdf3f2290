"""Enqueueing from FastAPI, in one transaction with the row that the job is about, and reading its status back.

    python examples/web_fastapi.py

It needs two packages more: pip install "taurine[embedded,http]" httpx2. There is no welcome for a user who was not stored, and no user without one: `session=` is a SQLAlchemy
session on the ledger's database, and the job is handed over after its commit. Here a test client stands for the browser, and the worker runs in the web process, which is handy
on one machine; in production it is `taurine --app examples.web_fastapi:app worker`, in processes of its own.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from taurine import Taurine

BANNED = ("mallory",)

app = Taurine("accounts")
engine = create_engine(app.settings.database_url or f"sqlite:///{app.settings.home / 'taurine.db'}")


class User(BaseModel):
    name: str = Field(min_length=1)
    email: str = Field(pattern="@")


@app.job("user.welcome", queue="mail", job_id="welcome:{name}")
async def welcome(user: User) -> str:
    return f"a welcome is on its way to {user.email}"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    await set_up()
    async with app.worker():
        yield
    await app.close()
    engine.dispose()


async def set_up() -> None:
    """The tables, Taurine's and your own."""
    await app.migrate()
    with engine.begin() as connection:
        connection.execute(text("create table if not exists account (name text primary key, email text)"))


api = FastAPI(lifespan=lifespan)


@api.post("/users", status_code=202)
def sign_up(user: User, response: Response) -> dict[str, Any]:
    """A plain `def`, which FastAPI runs in a thread: its session and its enqueue are those of code without an event loop."""
    with Session(engine) as session, session.begin():
        session.execute(
            text("insert into account values (:name, :email) on conflict do nothing"),
            {"name": user.name, "email": user.email},
        )
        handle = welcome.enqueue_sync(user, session=session, source="POST /users")
        if user.name in BANNED:
            raise HTTPException(403)  # and neither the row nor its job has ever been
    response.headers["Location"] = f"/jobs/{handle.id}"
    return {"job": handle.id, "duplicate": handle.duplicate}


@api.get("/jobs/{job_id}")
async def job_status(job_id: str, wait: float = 0) -> dict[str, Any]:
    """How it goes; with `?wait=10` as soon as it has ended, or after so many seconds."""
    record = await app.wait(job_id, min(wait, 30.0))
    if record is None:
        raise HTTPException(404)
    return {"status": record.status, "result": record.output}


def main() -> None:
    with TestClient(api) as browser:
        for name in ("ada", "ada", "mallory", ""):
            answer = browser.post("/users", json={"name": name, "email": f"{name}@example.com"})
            print(answer.status_code, answer.json() if answer.is_success else "")
        print(browser.get("/jobs/welcome:ada?wait=30").json())
        print(browser.get("/jobs/welcome:mallory").status_code)


if __name__ == "__main__":
    main()
