"""One load of a model at a time, in a process."""

from __future__ import annotations

import threading

#: transformers switches weight tying off for the whole process while it loads a model, and back on
#: to what it found. Two loads that overlap in threads can leave it off: every later model that ties
#: its head to its embeddings then has a head of uninitialised memory.
LOADING = threading.RLock()
