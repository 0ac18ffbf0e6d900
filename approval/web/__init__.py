"""People on the web: the console and the API."""
