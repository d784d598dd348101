"""rest-social-auth over social-core's own QQ backend, changed in no more than where QQ is."""
