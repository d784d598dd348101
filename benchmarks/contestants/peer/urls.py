from django.urls import path
from rest_social_auth.views import SocialJWTSlidingOnlyAuthView

urlpatterns = [path("oauth/qq/users/", SocialJWTSlidingOnlyAuthView.as_view())]
