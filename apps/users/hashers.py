"""Password hashes: Argon2id for new ones. Hashes by Django's default, PBKDF2, are read, and renewed at a login.

A hash takes 28 ms of CPU where PBKDF2 takes 200, and costs an attacker more, because it needs memory.
"""

from threading import BoundedSemaphore

from django.contrib.auth.hashers import Argon2PasswordHasher, get_hasher, get_hashers, identify_hasher

# At most so many hashes run at once in a process. 64 threads together would need 1.2 GiB.
SLOTS = BoundedSemaphore(2)


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB of memory, two passes and one lane: the second choice of OWASP's Password Storage page."""

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1

    def encode(self, password, salt):
        with SLOTS:
            return super().encode(password, salt)

    def verify(self, password, encoded):
        with SLOTS:
            return super().verify(password, encoded)


def hash_by_the_others(password, encoded):
    """Hash the password (str) by each hasher but the one that checked it against `encoded` (str).

    For a refused login: otherwise its time would tell an account with an old hash from one that does not exist.
    """
    try:
        used = identify_hasher(encoded)
    except ValueError:  # no account, or none with a password: Django has run the preferred one
        used = get_hasher()
    else:
        used.harden_runtime(password, encoded)  # old hashes have fewer iterations; Django skips this for them
    for hasher in get_hashers():
        if hasher.algorithm != used.algorithm:
            hasher.encode(password, hasher.salt())
