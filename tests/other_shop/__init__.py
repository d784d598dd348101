"""A second host, unlike the first: the app is imported as `oauth`, people have an e-mail address and no mobile."""
