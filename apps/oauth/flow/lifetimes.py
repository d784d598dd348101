"""How long everything in a login lives, in seconds."""

STATE = 10 * 60  # QQ's own code lives no longer
SEALED_CODE = 2 * 60  # enough for the page to load and call users/
COOKIELESS_SEALED_CODE = 30  # without the cookie only address and User-Agent tie it to a browser
BIND_TOKEN = 10 * 60  # enough to receive an SMS and fill in the form
RETURNED_COOKIE = SEALED_CODE + BIND_TOKEN  # the flow cookie, once the browser is back from QQ
REPEATED_FORM = 60  # a page may send the same form again if the answer was lost
REPEATED_APP_CALL = SEALED_CODE  # an app may send its call again if the answer was lost
REPEATED_RETURN = 60  # a browser may open callback/ again: it restores its tabs, or navigates twice

CLOCK_TOLERANCE = 60  # two servers' clocks may differ by this much
CLOCK_ALARM = 5  # a larger difference is logged as an error

# Cache entries outlive every cookie and token that refers to them. The longest case is direct mode: the state is
# redeemed at once, the answer is lost, and a repeat just before the cookie expires renews the cookie.
REMEMBERED = STATE + RETURNED_COOKIE + 2 * CLOCK_TOLERANCE
REMEMBERED_CODE = SEALED_CODE + 2 * CLOCK_TOLERANCE
REMEMBERED_FORM = REPEATED_FORM + CLOCK_TOLERANCE
