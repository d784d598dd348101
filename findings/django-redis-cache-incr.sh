#!/bin/bash
# Django 5.2.19, RedisCache with redis-py 8.1.0: incr() sends EXISTS and then INCRBY. If the key expires between the
# two, INCRBY creates it again with the increment as its value and without an expiry: a counter per minute is then never
# reset. Outside this race, incr() of an expired key raises ValueError. decr() calls incr() and has the same race.
#
# Each try below lets a counter expire after a millisecond and increments it until it is gone.
#
# Seen:
#   a counter without expiry appeared: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check Django==5.2.19 redis==8.1.0

# In Debian's redis-tools the server is named redis-check-rdb; it acts as the program by whose name it is called.
redis=$(command -v redis-server || command -v redis-check-rdb)
(exec -a redis-server "$redis" --port 0 --unixsocket "$folder/redis.sock" --save "" --dir "$folder" > "$folder/log") &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$folder"' EXIT
for _ in {1..100}; do [[ -S $folder/redis.sock ]] && break; sleep 0.1; done

cat > "$folder/try.py" <<'PYTHON'
import sys
import time

from django.conf import settings
from django.core.cache import cache
from redis import Redis

url = f"unix://{sys.argv[1]}/redis.sock"
settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}})
client, key = Redis.from_url(url), cache.make_key("counter")


def expires_after_race():
    cache.set("counter", 1, timeout=60)
    client.pexpire(key, 1)
    end = time.monotonic() + 0.005
    try:
        while time.monotonic() < end:
            cache.incr("counter")
    except ValueError:  # expired outside the race
        return True
    return client.ttl(key) != -1


print("a counter without expiry appeared:", not all(expires_after_race() for _ in range(5000)))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" "$folder")
echo "$seen"
diff <(sed -n 's/^#   //p' "$0") <(echo "$seen")
