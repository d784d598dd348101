"""The code that docs/plug-in.md tells a shop to write, taken from the document itself."""

import re
from types import ModuleType

import pytest
from django.urls import include, path

from meiduo.urls import urlpatterns as urls_of_the_shop
from tests.conftest import MOBILE, PASSWORD
from tests.tools.processes import ROOT


@pytest.fixture(params=["plug-in.md", "plug-in.zh.md"])
def with_urls_of_the_guide(request, shop):
    guide = (ROOT / "docs" / request.param).read_text("utf-8")
    (block,) = (block for block in re.findall("```python\n(.*?)```", guide, re.DOTALL) if "OpenidView" in block)
    urls = ModuleType("urls_of_the_guide")
    vars(urls).update(path=path, include=include, urlpatterns=[])
    exec(block.replace("meiduo_qq_login", "apps.oauth"), vars(urls))
    urls.urlpatterns += urls_of_the_shop
    shop.ROOT_URLCONF = urls


@pytest.mark.usefixtures("with_urls_of_the_guide")
def test_page_can_call_the_bind_token_openid(browser, phone):
    address = "/oauth/qq/user/"
    first = browser.get(address, data={"code": browser.arrive()}).json()
    assert (first["access_token"], first["next"]) == (first["openid"], "/cart")
    assert first.keys() == {"access_token", "openid", "fields", "next"}

    def bind(form):
        return browser.client.post(address, form, content_type="application/json")

    form = {"mobile": MOBILE, "password": PASSWORD, "sms_code": phone.receive_code(), "openid": first["openid"]}
    for malformed in ([], {**form, "openid": ""}, {**form, "openid": [1]}):
        assert bind(malformed).status_code == 400
    bound = bind(form)
    assert bound.status_code == 200
    again = browser.get(address, data={"code": browser.arrive()}).json()
    assert again.keys() == {"token", "user_id", "username", "next"}
    assert again["user_id"] == bound.json()["user_id"]
