"""schemathesis calls the running shop as its OpenAPI document says, and otherwise, and compares the answers with it.

`SCHEMATHESIS_EXAMPLES=500 .venv/bin/pytest tests/e2e/test_schemathesis.py` tries more.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.tools import processes
from tests.tools.remote_users import RemoteUser, new_mobile, shop_and_qq

SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "10")  # per endpoint and phase
CONFIG = """
hooks = "tests.tools.schemathesis_hooks"

[auth.openapi.loginToken]
api_key = "JWT {token}"

[checks]
# Only QQ and a phone hand out the codes and tokens that would be accepted.
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]

# The browser itself visits these: they report errors to the page.
[[operations]]
include-path-regex = "/(login|callback)/$"
checks.negative_data_rejection.enabled = false
"""


def test_schemathesis_finds_nothing(tmp_path):
    config = tmp_path / "schemathesis.toml"
    command = [Path(sys.executable).with_name("schemathesis"), f"--config-file={config}", "--no-color", "run"]
    command += [f"--seed={SEED}", f"--max-examples={EXAMPLES}", "--phases=examples,coverage,fuzzing"]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "encoding": "utf-8", "cwd": tmp_path}
    environ = {**os.environ, "PYTHONPATH": str(processes.ROOT), "NO_PROXY": "*"}
    with shop_and_qq(tmp_path) as (shop, qq):
        user = RemoteUser([shop], qq)
        token = user.bind(user.fill_in(new_mobile())).json()["token"]
        config.write_text(CONFIG.format(token=token))
        done = subprocess.run([*command, f"{shop.url}/api/schema/"], env=environ, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
