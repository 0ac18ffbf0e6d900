"""config.toml and what it names, read strictly into one frozen value.

`load` reads the file, its policies and its secrets, and says everything that is wrong at once. A
key that is not known, or not built yet, is an error: an ignored line would promise what nobody
keeps.
"""

from approval.config.reading import Config, load

__all__ = ["Config", "load"]
