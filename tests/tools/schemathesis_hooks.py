"""For schemathesis: each of its calls comes from an address of its own, so that it meets no limit."""

import schemathesis

from tests.tools.processes import random_address


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["X-Forwarded-For"] = random_address()
    kwargs["allow_redirects"] = False
