"""A second host, unlike the first: the app has another name, people have an e-mail address and no mobile."""
