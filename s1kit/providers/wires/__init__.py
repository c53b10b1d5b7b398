"""The wire formats of the providers: pure functions from a request to JSON and from any JSON to a reply."""
