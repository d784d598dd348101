import secrets

from django.contrib.auth import login
from django.core.cache import cache
from django.core.mail import send_mail
from django.db import transaction
from django.http import JsonResponse


def send_email_code(request, email):
    code = secrets.token_hex(8)  # too long to guess, so tries are not counted
    cache.set(f"email_code_{email}", code, 300)
    send_mail("Your code", f"{code} is your code.", None, [email])
    return JsonResponse({"message": "OK"})


def session_payload(user, request):
    # ATOMIC_REQUESTS must not apply to the login: it would hold a connection during the call to QQ.
    assert not transaction.get_connection("people").in_atomic_block
    login(request, user)
    return {"user_id": user.pk, "username": user.email}
