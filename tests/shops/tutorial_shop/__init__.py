"""A shop built after the meiduo tutorial: users with a mobile, SMS codes in Redis, drf-jwt, pages on another origin.

For QQ login it has added the settings named QQ_…, one line of its urls, and the receiver in carts.py. before/ is the
code that the app replaces. The pages are unchanged; the test writes js/host.js, which contains the API's address.
"""
