"""The HTTP API: for programs in any language, and for the pages. It needs the extra `http`.

`create_app(app)` makes it, `Access` says who may call.
"""

from taurine.http.access.access import Access
from taurine.http.access.caller import Caller
from taurine.http.access.oidc import OpenIdConnect
from taurine.http.application import create_app

__all__ = ["Access", "Caller", "OpenIdConnect", "create_app"]
