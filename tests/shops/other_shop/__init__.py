"""A second host, unlike the first: people have an e-mail address and no mobile, codes are mailed, logins are sessions.

Its pages are its own, of one origin with its API.
"""
