"""QQ login for a Django shop. Plug it in with `apps.OAuthConfig`, `urls` and the QQ_ settings of `conf`."""
