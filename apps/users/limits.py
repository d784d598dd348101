"""The rate limits of the shop's own forms, counted by client address unless the call names another subject.

The limits of sending SMS are in sms.py, the lock of an account after wrong passwords is in apps.oauth.account_lock.
"""

from apps.oauth.ratelimit import RateLimit

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600  # seconds

LOGIN = RateLimit("login", 30, MINUTE)
LOGIN_FAILED = RateLimit("login_failed", 10, MINUTE)
SMS_CHECK_FAILED = RateLimit("sms_check_failed", 30, HOUR)
IMAGE_CODE = RateLimit("image_code", 60, MINUTE)
IMAGE_CODE_TRIED = RateLimit("image_code_tried", 60, MINUTE)
COUNT = RateLimit("count", 60, MINUTE)  # calls that reveal whether a username or a mobile number is taken
