"""One user who logs in, and does what a browser, the page and a person do when something fails."""

import random
import time
from collections import Counter
from functools import partial
from http.client import HTTPException
from typing import NamedTuple
from uuid import uuid4

from tests.tools.processes import HOST, Visitor
from tests.tools.remote_users import PASSWORD, at_once, new_mobile, read_page

PATIENCE = 45  # seconds; a login that takes longer is given up
PAUSE = 1  # seconds until somebody presses a button again, if no answer says how long
THINKING = 1  # seconds at most, at QQ's page and at the form
# What docs/http-api.md has for 502, 503 and 504. Every other answer of 500 or more is a fault.
UNAVAILABLE = {"cache_unavailable", "database_unavailable", "server_unavailable"}
DOCUMENTED = {"qq_busy", "qq_unavailable", "qq_misconfigured", *UNAVAILABLE}
REPEATED = {"no answer", "qq_busy", "throttled", *UNAVAILABLE}


class StartAgain(Exception):
    """This login has ended; the page shows the QQ button. The text is the reason."""


class GivenUp(Exception):
    """Neither this login nor one new start has worked. The text is the reason."""


class Use(NamedTuple):
    """A value that has been used up."""

    kind: str  # "state": the callback's address; "code": a sealed code; "form"
    at: float
    value: object
    cookies: tuple  # of the browser, just before
    result: object


class User:
    """`user_id`: None if this QQ is not bound yet: then the user fills in the form. `both`: to both apps."""

    def __init__(self, cluster, person, user_id=None, *, both=False):
        self.cluster, self.person, self.user_id, self.both = cluster, person, user_id, both
        self.visitor, self.began = Visitor(), time.time()
        self.logged_in_as = self.given_up = None
        self.new_starts = []  # reasons
        self.was_refused_at_start = False  # login/ refused, before any login was under way
        self.documented, self.undocumented = Counter(), []
        self.wrong_refusals = 0
        self.uses = []

    def run(self):
        try:
            while self.logged_in_as is None:
                self.try_to_log_in()
            self.cluster.bound.setdefault(self.person, self.logged_in_as)
        except GivenUp as why:
            self.given_up = f"{why}, after {time.time() - self.began:.0f} s"

    def try_to_log_in(self):
        try:
            page = self.come_back(self.sign_in())
            answer = self.redeem(page["code"])
            self.logged_in_as = (answer if "token" in answer else self.bind(answer["access_token"]))["user_id"]
        except StartAgain as why:
            self.new_starts.append(str(why))
            if len(self.new_starts) > 1:
                raise GivenUp(" and ".join(self.new_starts)) from None
            self.pause()

    def sign_in(self):
        """Press the QQ button until it leads to QQ, and sign in there; return the callback's address."""
        while True:
            answer = self.get("login", "/oauth/qq/login/?next=/cart")
            target = answer.headers["Location"] if answer and answer.status == 302 else ""
            if target.startswith(self.cluster.qq.url):
                self.think()
                return self.cluster.qq.sign_in(target, self.person)
            if target:
                self.documented[f"login {read_page(target)['error']}"] += 1
            self.was_refused_at_start = not self.new_starts
            self.pause(answer)

    def come_back(self, address):
        """Follow QQ's redirect; return the parameters of the page. Without an answer, reload."""
        cookies = tuple(self.visitor.cookies)
        path = address.removeprefix(self.cluster.url)
        while (answer := self.get("callback", path)) is None or answer.status != 302:
            self.pause(answer)
        page = read_page(answer.headers["Location"])
        if "error" in page:
            self.documented[f"callback {page['error']}"] += 1
            raise StartAgain(page["error"])
        self.use("state", address, cookies, page["code"])
        return page

    def redeem(self, code):
        """Make the page's call, and repeat it as docs/http-api.md says; return the answer."""
        last_error = None
        while True:
            answer = self.get("users", f"/oauth/qq/users/?code={code}")
            error = code_of(answer)
            if error is None:
                self.use("code", code, tuple(self.visitor.cookies), answer.json())
                return answer.json()
            if error not in REPEATED or error == last_error == "cache_unavailable":
                raise StartAgain(error)
            last_error = error
            self.pause(answer)

    def bind(self, bind_token):
        """Fill in the form and send it until it is accepted; return the answer."""
        form = {"password": PASSWORD, "access_token": bind_token} | self.prove_mobile()
        self.think()
        while True:
            answer = self.send(form)
            error = code_of(answer)
            if error is None:
                self.use("form", form, tuple(self.visitor.cookies), answer.json())
                return answer.json()
            if error == "invalid" and "sms_code" in answer.json():  # the cache has lost it
                form |= self.prove_mobile()
            elif error in REPEATED:
                self.pause(answer)
            else:
                raise StartAgain(error)

    def send(self, form):
        """Send the form. Return the answer; of two, a good one."""
        urls, headers = [self.cluster.url], {}
        if self.both:  # past haproxy, with its header
            urls = [app.url for app in self.cluster.apps]
            headers = {"X_Forwarded_For": f"{self.visitor.address}, {HOST}"}
        posts = [partial(self.visitor.post, f"{url}/oauth/qq/users/", form, **headers) for url in urls]
        answers = at_once(*(partial(self.call, "form", post) for post in posts))
        errors = list(map(code_of, answers))
        self.wrong_refusals += errors.count("already_bound")
        return answers[errors.index(None)] if None in errors else answers[0]

    def prove_mobile(self):
        """Get an SMS code; return the form's fields. Each time for another number: one gets an SMS a minute."""
        while True:
            mobile, image = new_mobile(), uuid4()
            answer = self.get("image", f"/image_codes/{image}/")
            if answer and answer.status == 200:
                text = self.cluster.read_image(image)
                answer = self.get("sms", f"/sms_codes/{mobile}/?text={text}&image_code_id={image}")
                if answer and answer.status == 200:
                    return {"mobile": mobile, "sms_code": self.cluster.read_sms(mobile)}
            self.pause(answer)

    def get(self, name, path):
        return self.call(name, partial(self.visitor.get, self.cluster.url + path))

    def call(self, name, call):
        """Make a call. Return the answer, or None if there is none, or none that the shop has in its documents."""
        if time.time() - self.began > PATIENCE:
            raise GivenUp(name)
        try:
            answer = call()
        except (OSError, HTTPException) as exc:
            self.undocumented.append(f"{name}: {exc!r}")
            return None
        if answer.status < 500:
            return answer
        if 502 <= answer.status <= 504 and code_of(answer) in DOCUMENTED and "Retry-After" in answer.headers:
            self.documented[f"{name} {code_of(answer)}"] += 1
            return answer
        after = "" if "Retry-After" in answer.headers else " without Retry-After"
        self.undocumented.append(f"{name} {answer.status} {code_of(answer)}{after}")
        return None

    def pause(self, answer=None):
        time.sleep(float(answer.headers.get("Retry-After", PAUSE) if answer else PAUSE) + random.random())

    def think(self):
        time.sleep(THINKING * random.random())

    def use(self, kind, value, cookies, result):
        self.uses.append(Use(kind, time.time(), value, cookies, result))


def code_of(answer):
    """Return the code of an error, None of a success."""
    if answer is None:
        return "no answer"
    try:
        return answer.json().get("code")
    except (ValueError, AttributeError):
        return f"status {answer.status}"
