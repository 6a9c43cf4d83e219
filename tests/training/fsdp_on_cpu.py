"""The command line with FSDP between CPU processes; accelerate itself offers it on GPUs alone.

Accelerate decides by the kind of its processes: told that they have GPUs, while device and backend
stay what they are, it shards for real.
"""

from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from sft_diversity.cli import main

begin = PartialState.__init__


def begin_as_with_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = begin_as_with_gpus
main()
