"""Who embeds: threads of one core each, three threads around one GPU or a process a GPU."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from sft_diversity.core import children, machine, stopping
from sft_diversity.embedding.base import Encoder, Placement, WholeEncoder
from sft_diversity.embedding.batches import Batch, Filled, Spent, embed_batch
from sft_diversity.embedding.stream import OneDevice, Processes, Stream, Vectors

MakeEncoder = Callable[[str], Encoder]
_encoder: Encoder | None = None  # of a worker process


def run_threads(
    make: MakeEncoder,
    placement: Placement,
    folder: Path,
    units: Iterable[Batch],
    advance: Callable[[int], None],
) -> Spent:
    """Embed the units on one device, by `placement.workers` threads that share the encoder.

    PyTorch frees the interpreter during products, and a product of one thread waits for no
    other: two such workers are faster than one product over two threads, above all where the
    machine has other work. Threads also die with their process, however it is killed.
    """
    lock, encoder, spent = threading.Lock(), make(placement.first_device), Spent()
    if placement.device == "cuda" and not isinstance(encoder, WholeEncoder):
        Stream(encoder, placement.batch_tokens, folder, advance, spent).run(units)
        return spent

    def count(texts: int) -> None:
        stopping.safe_point("embed")
        with lock:
            advance(texts)

    def work(batch: Batch) -> int:
        embed_batch(encoder, placement.batch_tokens, folder, batch, count, spent)
        return batch.known

    with threads(placement) as executor:
        children.drain("embed", executor, work, units, 2 * placement.threads, advance)
    return spent


def free_gpu() -> None:
    """Give back what a GPU held for an encoder that is gone: a study's runs come after it."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # of nothing, where CUDA was not used


@contextlib.contextmanager
def threads(placement: Placement) -> Iterator[ThreadPoolExecutor]:
    """Yield threads for an encoder, which sets torch to one core each; undo that at the end."""
    import torch

    machine.keep_freed_memory()
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(placement.threads, thread_name_prefix="embed") as executor:
            yield executor
    finally:
        torch.set_num_threads(before)


def run_processes(
    make: MakeEncoder,
    devices: list[str],
    placement: Placement,
    folder: Path,
    units: Iterable[Batch],
    advance: Callable[[int], None],
) -> Spent:
    """Embed the units by one process a device; `make` must be picklable.

    The processes compute batches of one stream, which this one tokenises, lays out and writes: so
    many devices compute no more padding than one. What they do not batch (`WholeEncoder`) they are
    given as units.
    """
    spent = Spent()

    def count(done: tuple[int, int, int, int]) -> None:
        known, *own = done
        spent.add(*own)
        advance(known + own[0])

    names: SimpleQueue[str] = multiprocessing.get_context("spawn").SimpleQueue()
    for device in devices:
        names.put(device)
    with (
        children.told_when_ended("embed"),
        children.pool(len(devices), _begin, make, names) as executor,
    ):
        whole, flat = executor.submit(_kind).result()
        if whole:
            work = _ProcessWork(placement.batch_tokens, folder)
            children.drain("embed", executor, work, units, 2 * len(devices), count)
            return spent
        reader = make("cpu")  # for its tokenizer
        assert not isinstance(reader, WholeEncoder)
        reader.flat = flat
        compute = Processes(executor, len(devices), _forward)
        Stream(reader, placement.batch_tokens, folder, advance, spent, compute).run(units)
    return spent


class _ProcessWork:
    """What a worker process does with a unit; returns the texts that were known, and the others."""

    def __init__(self, batch_tokens: int, folder: Path) -> None:
        self._batch_tokens, self._folder = batch_tokens, folder

    def __call__(self, batch: Batch) -> tuple[int, int, int, int]:
        assert _encoder is not None
        spent = Spent()
        embed_batch(_encoder, self._batch_tokens, self._folder, batch, lambda _: None, spent)
        return batch.known, spent.texts, spent.tokens, spent.computed


def _begin(make: MakeEncoder, names: SimpleQueue[str]) -> None:
    global _encoder
    _encoder = make(names.get())


def _kind() -> tuple[bool, bool]:
    """Return whether the encoder of this process takes texts whole, and whether in one row."""
    assert _encoder is not None
    if isinstance(_encoder, WholeEncoder):
        return True, False
    return False, _encoder.flat


def _forward(batches: list[Filled]) -> list[Vectors]:
    """Compute batches here, each begun before the one before it is done."""
    assert _encoder is not None
    assert not isinstance(_encoder, WholeEncoder)
    return OneDevice(_encoder)(batches)()
