"""What the gateway costs: `python -m tests.bench` measures it against a plain aiohttp proxy."""
