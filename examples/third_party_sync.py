"""Contacts that are kept the same at a third party, whose API limits its callers and fails now and then.

    python examples/third_party_sync.py

A job is one version of one contact. `ctx.once` creates a contact there once, also when the answer gets lost or two versions come at once. What is there already says its
version, so a version that comes late changes nothing. Run it again, and the API is not called.
"""

import asyncio
from typing import Literal, NamedTuple

from pydantic import BaseModel

from taurine import Context, Exponential, RateLimit, Retry, RetryAfter, Taurine

app = Taurine("contacts")
app.queue("crm", rate_limit=RateLimit(30, 1))  # jobs in a second, of three calls each, over all workers
RETRY = Retry(attempts=8, backoff=Exponential(2.0, cap=300))


class Contact(BaseModel):
    contact: str
    version: int  # of your own row: each change of it counts on
    name: str


class ApiError(Exception):
    """retry_after: seconds, where the API says so."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"the API answered {status}")
        self.status = status  # by this Taurine tells what another attempt may mend, and what may have happened
        self.retry_after = retry_after


class There(NamedTuple):
    revision: int  # the API's own: an ETag
    version: int
    name: str


class Crm:
    """In place of the third party: whoever creates twice has two contacts. troubles: of the next calls, by reference."""

    def __init__(self, **troubles: list[ApiError]) -> None:
        self.contacts: dict[str, There] = {}
        self.references: list[str] = []  # of contact number 1, 2, …
        self.troubles, self.calls = troubles, 0

    def answer(self, name: str) -> None:
        self.calls += 1
        if self.troubles.get(name):
            raise self.troubles[name].pop(0)

    async def create(self, reference: str) -> str:
        refused = [trouble for trouble in self.troubles.get(reference, [])[:1] if trouble.status != 503]
        if not refused:  # after a 503 it is there, and only the answer got lost
            self.references.append(reference)
            self.contacts[f"c-{len(self.references)}"] = There(0, 0, "")
        self.answer(reference)
        return f"c-{len(self.references)}"

    async def find(self, reference: str) -> str | None:
        self.answer(reference)
        return f"c-{self.references.index(reference) + 1}" if reference in self.references else None

    async def read(self, key: str) -> There:
        self.answer(key)
        return self.contacts[key]

    async def write(self, key: str, contact: Contact, *, if_match: int) -> None:
        self.answer(key)
        if self.contacts[key].revision != if_match:
            raise ApiError(412)
        self.contacts[key] = There(if_match + 1, contact.version, contact.name)


@app.job("contact.sync", queue="crm", job_id="sync:{contact}:{version}", retry=RETRY)
async def sync(contact: Contact, ctx: Context) -> Literal["written", "overtaken"]:
    crm: Crm = ctx.deps
    reference = contact.contact
    try:
        # The key has no version: all versions of a contact share the one that is created.
        key = await ctx.once(f"create:{reference}", crm.create, reference, look_up=lambda: crm.find(reference))
        there = await crm.read(key)
        if there.version > contact.version:
            return "overtaken"
        if there.version < contact.version:  # else an earlier attempt has written it
            await crm.write(key, contact, if_match=there.revision)
    except ApiError as error:
        pause = 1.0 if error.status == 412 else error.retry_after  # 412: another version was written meanwhile
        if pause is None:
            raise
        raise RetryAfter(pause, str(error)) from error
    return "written"


async def main() -> None:
    crm = Crm(grace=[ApiError(429, retry_after=0.2)], linus=[ApiError(503)])
    soon = Retry(attempts=8, backoff=Exponential(0.05))  # a demonstration does not wait for seconds
    changes = [("ada", 2, "Ada King"), ("ada", 1, "Ada Byron"), ("grace", 1, "Grace"), ("linus", 1, "Linus")]

    async with app, app.worker(deps=crm):
        for reference, version, name in changes:
            handle = await sync.enqueue(Contact(contact=reference, version=version, name=name), retry=soon)
            print(f"{handle.id}: {await handle.result(timeout=30)} in attempt {(await handle.record()).attempts}")
    print(f"{crm.calls} calls in this run, {len(crm.references)} contacts created")


if __name__ == "__main__":
    asyncio.run(main())
