"""A shop as the app finds it: users with a mobile, SMS codes in Redis, rest_framework_jwt, pages on another origin.

What was added for QQ login is in its settings under QQ, one line of its urls, and the receiver in carts.py; what it had
in the place of the app is in before/. The pages were there before, each with the script that such shops have in a file
beside it; js/host.js, which says where the API is, is written by the test.
"""
