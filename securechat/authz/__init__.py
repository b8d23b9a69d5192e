"""The decision point: a request and a policy set give a decision that names its rules. Pure."""
