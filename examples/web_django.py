"""Enqueueing from Django: after the commit of the row that the job is about, and reading its status back.

    python examples/web_django.py

It needs one package more: pip install "taurine[embedded]" django. Django's ORM has a connection of its own, which `session=` cannot join, so the job is enqueued by
`transaction.on_commit`: there is no mail for an order that was rolled back. A process that dies between the two has stored the row and not the job; where that must not be, a
schedule looks for orders without a job, which is safe, since the id is made of the order. The project is this one file, and Django's test client stands for the browser.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Django has no types of its own.

import asyncio
from functools import partial
from typing import Any

import django
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, JsonResponse
from django.test import Client
from django.urls import path
from pydantic import BaseModel, Field, ValidationError

from taurine import Taurine

app = Taurine("shop")


class Order(BaseModel):
    number: int
    email: str = Field(pattern="@")


@app.job("order.confirm", queue="orders", job_id="confirm:{number}")
def confirm(order: Order) -> str:
    """A plain `def` runs in a thread, where the ORM may be used; it gives its connection back, as the end of a request would."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("select email from shop_order where number = %s", [order.number])
            (email,) = cursor.fetchone()
        return f"order {order.number}: a mail to {email} is on its way"
    finally:
        connection.close()


def place_order(request: HttpRequest) -> JsonResponse:
    try:
        order = Order.model_validate_json(request.body)
    except ValidationError as error:
        return JsonResponse({"errors": error.errors(include_input=False, include_url=False)}, status=422)
    try:
        with transaction.atomic():
            transaction.on_commit(partial(confirm.enqueue_sync, order, source="POST /orders"))
            with connection.cursor() as cursor:
                cursor.execute("insert into shop_order values (%s, %s)", [order.number, order.email])
    except IntegrityError:
        return JsonResponse({"error": f"there is an order {order.number} already"}, status=409)
    return JsonResponse({"job": f"confirm:{order.number}"}, status=202)


def job_status(request: HttpRequest, job_id: str) -> JsonResponse:
    record = app.get_sync(job_id)
    if record is None:
        raise Http404
    return JsonResponse({"status": record.status, "result": record.output})


urlpatterns = [path("orders", place_order), path("jobs/<path:job_id>", job_status)]


def set_up() -> None:
    """What `settings.py` and the migrations of a project do."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            DATABASES={
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(app.settings.home / "business.db")}
            },
            ROOT_URLCONF=__name__,
            SECRET_KEY="for this example alone",
            USE_TZ=True,
        )
        django.setup()
    app.settings.home.mkdir(parents=True, exist_ok=True)
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists shop_order (number integer primary key, email text)")


async def work(job_id: str) -> None:
    """A worker until this job is done; in production `taurine worker`, on a module that sets Django up first."""
    async with app.worker():
        await app.wait(job_id, timeout=30)
    await app.close()


def main() -> None:
    set_up()
    browser = Client()

    def post(order: dict[str, Any]) -> None:
        answer = browser.post("/orders", order, content_type="application/json")
        print(answer.status_code, answer.json() if answer.status_code == 202 else "")

    for email in ("ada@example.com", "ada@example.com", ""):
        post({"number": 7, "email": email})
    asyncio.run(work("confirm:7"))
    print(browser.get("/jobs/confirm:7").json())
    print(browser.get("/jobs/confirm:8").status_code)
    app.close_sync()
    connection.close()


if __name__ == "__main__":
    main()
