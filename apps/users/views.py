from django.conf import settings
from django.contrib.auth import user_logged_in
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.oauth.audit import audited
from apps.oauth.redaction import mask_mobile

from . import image_codes, sms
from .events import Event
from .fields import IMAGE_CODE_WRONG
from .limits import COUNT, IMAGE_CODE, IMAGE_CODE_TRIED, LOGIN
from .mobiles import is_mobile
from .models import User
from .password_serializers import PasswordChangeSerializer, PasswordResetSerializer
from .serializers import (
    LoginSerializer,
    MobileSerializer,
    ProfileSerializer,
    RegistrationSerializer,
    SMSRequestSerializer,
    UsernameSerializer,
)
from .tokens import login_payload


def validate(serializer_class, data, request):
    """Return the serializer of valid data. Raises ValidationError, and what the serializer raises."""
    serializer = serializer_class(data=data, context={"request": request})
    serializer.is_valid(raise_exception=True)
    return serializer


def get_masked_mobile(form, field="mobile"):
    """Return the mobile number in a field of the form, masked for the audit log; None if there is none."""
    value = form.get(field) if isinstance(form, dict) else None
    # Other text of 11 digits may be a password typed into the wrong field.
    return mask_mobile(value) if isinstance(value, str) and is_mobile(value) else None


class ShopView(APIView):
    """A view of the shop. Neither browsers nor proxies may store its answers, including errors.

    The methods read `request.data` before they count or record the call: a malformed body does neither.
    """

    def initial(self, request, *args, **kwargs):
        """Refuse calls from other sites' pages: they could use up the limits of their visitors' addresses."""
        is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site"
        if is_foreign and request.headers.get("Origin") not in settings.CORS_ALLOWED_ORIGINS:
            raise PermissionDenied(_("请从本店的页面登录。"))
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response


class PublicView(ShopView):
    """A view that reads no login token, so that an expired one does not prevent a new login."""

    authentication_classes = permission_classes = ()


class LoginView(PublicView):
    def post(self, request):
        form = request.data
        with audited(request, Event.PASSWORD_LOGIN) as step:
            step.add(mobile=get_masked_mobile(form, "username"))
            LOGIN.hit(request)
            user = validate(LoginSerializer, form, request).validated_data["user"]
            user_logged_in.send(sender=User, request=request, user=user)
            step.add(user_id=user.pk)
        return Response(login_payload(user, request))


class RegistrationView(PublicView):
    def post(self, request):
        form = request.data
        with audited(request, Event.REGISTRATION) as step:
            step.add(mobile=get_masked_mobile(form))
            COUNT.hit(request)  # the answer reveals whether the username is taken
            user = validate(RegistrationSerializer, form, request).save()
            step.add(user_id=user.pk)
        token, mobile = login_payload(user, request)["token"], mask_mobile(user.mobile)
        return Response({"id": user.pk, "username": user.username, "mobile": mobile, "token": token}, status=201)


class PasswordResetView(PublicView):
    def post(self, request):
        form = request.data
        with audited(request, Event.PASSWORD_RESET) as step:
            step.add(mobile=get_masked_mobile(form))
            user = validate(PasswordResetSerializer, form, request).save()
            user_logged_in.send(sender=User, request=request, user=user)
            step.add(user_id=user.pk)
        return Response(login_payload(user, request))


class PasswordChangeView(ShopView):
    def put(self, request):
        form = request.data
        with audited(request, Event.PASSWORD_CHANGE) as step:
            step.add(user_id=request.user.pk)
            user = validate(PasswordChangeSerializer, form, request).save()
        return Response(login_payload(user, request))


class ProfileView(ShopView):
    def get(self, request):
        return Response(ProfileSerializer(request.user).data)


class UsernameCountView(PublicView):
    def get(self, request, username):
        COUNT.hit(request)
        validate(UsernameSerializer, {"username": username}, request)
        return Response({"username": username, "count": User.objects.filter(username=username).count()})


class MobileCountView(PublicView):
    def get(self, request, mobile):
        COUNT.hit(request)
        validate(MobileSerializer, {"mobile": mobile}, request)
        return Response({"mobile": mobile, "count": User.objects.filter(mobile=mobile).count()})


class ImageCodeView(PublicView):
    def get(self, request, image_code_id):
        IMAGE_CODE.hit(request)
        return HttpResponse(image_codes.draw(image_code_id), content_type="image/png")


class SMSCodeView(PublicView):
    def get(self, request, mobile):
        form = {**request.query_params.dict(), "mobile": mobile}
        with audited(request, Event.SMS) as step:
            step.add(mobile=get_masked_mobile(form))
            IMAGE_CODE_TRIED.hit(request)
            answer = validate(SMSRequestSerializer, form, request).validated_data
            # Checked before an SMS is counted: a caller who cannot read the image uses up no SMS of the number.
            if not image_codes.check(answer["image_code_id"], answer["text"]):
                raise ValidationError({"text": [IMAGE_CODE_WRONG]})
            sms.send_code(request, mobile)
        return Response({"message": "OK"})
