"""A shop unlike the tutorial's: users have an e-mail address and no mobile, codes are mailed, logins are sessions.

Pages and API have one origin.
"""
