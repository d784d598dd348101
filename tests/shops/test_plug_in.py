"""What docs/plug-in.md gives a shop to write, taken from the page itself."""

import re
from types import ModuleType

import pytest
from django.urls import include, path

from meiduo.urls import urlpatterns as paths_of_the_shop
from tests.conftest import MOBILE, PASSWORD
from tests.tools.processes import ROOT


@pytest.fixture(params=["plug-in.md", "plug-in.zh.md"])
def guide(request):
    return (ROOT / "docs" / request.param).read_text("utf-8")


@pytest.fixture
def page_that_says_openid(guide, shop, browser):
    """A browser with a page that calls user/, at a shop whose urls are the guide's."""
    (block,) = (block for block in re.findall("```python\n(.*?)```", guide, re.DOTALL) if "OpenidView" in block)
    urls = ModuleType("urls_of_the_guide")
    vars(urls).update(path=path, include=include, urlpatterns=[])
    exec(block.replace("meiduo_qq_login", "apps.oauth"), vars(urls))
    urls.urlpatterns += paths_of_the_shop
    shop.ROOT_URLCONF = urls
    return browser


def test_a_page_may_call_the_bind_token_openid(page_that_says_openid, phone):
    page, address = page_that_says_openid, "/oauth/qq/user/"
    asked = page.get(address, data={"code": page.arrive()}).json()
    assert asked == {"access_token": asked["openid"], "openid": asked["openid"], "next": "/cart"}

    def bind(form):
        return page.client.post(address, form, content_type="application/json")

    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "openid": asked["openid"]}
    for no_form in ([], {**form, "openid": ""}, {**form, "openid": [1]}):
        assert bind(no_form).status_code == 400
    bound = bind(form)
    assert bound.status_code == 200
    again = page.get(address, data={"code": page.arrive()}).json()
    assert again.keys() == {"token", "user_id", "username", "next"}
    assert again["user_id"] == bound.json()["user_id"]
