"""rest-social-auth over social-core's own QQ backend; only QQ's address is changed."""
