"""The tests, and what each of their processes is to know before anything is imported.

Images often tell Python to keep no bytecode. Then each of the hundreds of processes that the tests
start compiles the whole program anew, for longer than it lives otherwise.
"""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
