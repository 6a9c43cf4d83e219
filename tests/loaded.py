"""What forked processes find loaded: code alone, no thread is started and no device touched."""

from __future__ import annotations

import gc

import transformers

from sft_diversity.scoring import heldout
from sft_diversity.training import trainer
from sft_diversity.verbs import VERBS

LOADED = [transformers.AutoModelForCausalLM, transformers.AutoTokenizer, heldout, trainer]
LOADED += [verb.function() for verb in VERBS.values()]
gc.collect()
gc.freeze()  # what is here is not looked through, and so not copied, in each child
