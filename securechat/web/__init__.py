"""What all HTTP servers share: routes, authentication, authorization, problems, limits, OpenAPI."""
