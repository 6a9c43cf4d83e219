from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.training import theory
from sft_diversity.training.theory import gradient_figures


def parameter(weights, gradient=None):
    made = torch.nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))
    made.grad = None if gradient is None else torch.as_tensor(gradient, dtype=torch.float32)
    return made


def group(*parameters, decay=0.0):
    return {"params": list(parameters), "weight_decay": decay}


def test_a_gaussian_gradient_has_the_ratio_root_two_over_pi():
    drawn = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    got = gradient_figures([group(parameter(torch.zeros(1_000_000), drawn))], box=False)
    assert got.grad_ratio == pytest.approx(math.sqrt(2 / math.pi), abs=1e-3)
    assert got.as_log().keys() == {"grad_l1", "grad_l2", "grad_ratio"}


def test_equal_entries_have_ratio_one_and_a_lone_entry_the_least():
    assert (
        gradient_figures([group(parameter([0.0] * 4, [3.0, -3.0, 3.0, 3.0]))], False).grad_ratio
        == 1.0
    )
    assert (
        gradient_figures([group(parameter([0.0] * 4, [0.0, 5.0, 0.0, 0.0]))], False).grad_ratio
        == 0.5
    )


def test_no_gradient_is_no_fault():
    got = gradient_figures([group(parameter([1.0, 2.0])), group(parameter([0.0], [0.0]))], box=True)
    assert got.grad_l1 == got.grad_l2 == got.kkt_gap == 0.0
    assert math.isnan(got.grad_ratio)


def test_by_hand():
    decayed = parameter([[1.0, -3.0], [4.0, 0.0]], [[2.0, 1.0], [-1.0, 0.5]])
    bias = parameter([9.0], [-2.0])
    got = gradient_figures([group(decayed, decay=0.5), group(bias)], box=True)
    assert got.grad_l1 == 6.5
    assert got.grad_l2 == pytest.approx(math.sqrt(4 + 1 + 1 + 0.25 + 4))
    assert got.kkt_gap == 6.5 + 0.5 * (2 - 3 - 4)
    assert got.box_share == 0.5  # 1 and 0 lie within 2; the bias has no box


def test_long_sums_keep_their_digits():
    """Torch's own single-precision 1-norm is far off here."""
    drawn = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3_000_000, generator=torch.Generator().manual_seed(1))
    got = gradient_figures([group(parameter(weights, drawn), decay=0.25)], box=True)
    exact, x = drawn.double(), weights.double()
    assert got.grad_l1 == pytest.approx(exact.abs().sum().item(), rel=1e-6)
    assert got.grad_l2 == pytest.approx(exact.norm().item(), rel=1e-6)
    assert got.kkt_gap == pytest.approx((exact.abs().sum() + 0.25 * (x @ exact)).item(), rel=1e-6)
    assert got.box_share == (weights.abs() <= 4.0).sum().item() / 3_000_000


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1e3, 1e3)), min_size=1, max_size=9),
    st.floats(0.01, 10),
)
@settings(deadline=None, max_examples=60)
def test_inside_the_box_the_gap_is_never_negative(pairs, decay):
    weights = [share / decay for share, _ in pairs]
    gradient = [g for _, g in pairs]
    got = gradient_figures([group(parameter(weights, gradient), decay=decay)], box=True)
    assert got.kkt_gap >= -1e-5 * max(got.grad_l1, 1.0)


def test_the_gap_is_zero_at_the_solution_of_a_solved_problem():
    """min ‖x − a‖²/2 over |x| ≤ 1/λ is a, clipped to the box; elsewhere the gap is positive."""
    target, decay = torch.tensor([0.3, -5.0, 2.0, 0.0, 7.0]), 0.5
    solved = target.clamp(-1 / decay, 1 / decay)
    at = gradient_figures([group(parameter(solved, solved - target), decay=decay)], box=True)
    assert at.grad_l1 > 1.0
    assert at.kkt_gap == pytest.approx(0.0, abs=1e-6)
    assert at.box_share == 1.0
    beside = solved * 0.9
    assert (
        gradient_figures([group(parameter(beside, beside - target), decay=decay)], True).kkt_gap
        > 0.1
    )


def test_lion_reaches_the_kkt_point():
    """Under a falling rate the library's LION closes the gap on a problem with active bounds."""
    from pytorch_optimizer import Lion

    target, decay, steps = torch.tensor([0.3, -5.0, 1.0, 7.0]), 0.5, 1_500
    x = parameter([0.0] * 4)
    optimizer = Lion([x], lr=0.02, betas=(0.9, 0.99), weight_decay=decay, foreach=False)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        optimizer.zero_grad()
        (0.5 * (x - target).square().sum()).backward()
        optimizer.step()
    x.grad = (x - target).detach()
    got = gradient_figures([group(x, decay=decay)], box=True)
    assert got.grad_l1 == pytest.approx(3.0 + 5.0, rel=1e-2)
    assert got.kkt_gap == pytest.approx(0.0, abs=5e-2)


def test_a_scaled_gradient_counts_unscaled_and_half_precision_is_summed_in_single():
    weights, drawn = torch.randn(100_000), torch.randn(100_000)
    whole = gradient_figures([group(parameter(weights, drawn), decay=0.1)], box=True)
    scaled = gradient_figures(
        [group(parameter(weights, drawn * 1024), decay=0.1)], box=True, scale=1024.0
    )
    assert scaled == whole
    half = torch.nn.Parameter(weights.bfloat16())
    half.grad = drawn.bfloat16()
    rounded = gradient_figures([group(half, decay=0.1)], box=True)
    exact = drawn.bfloat16().double()
    assert rounded.grad_l1 == pytest.approx(exact.abs().sum().item(), rel=1e-6)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


def groups_of(net):
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    return [group(*decayed, decay=3.0), group(*others)]


def rows(rank):
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(rank))


def _shard_and_measure(rank, store, results):
    """Run in one of two processes: FSDP 2, then FSDP 1, then DDP on the same model and data."""
    import warnings

    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    sharded = fully_shard(model(), mesh=mesh)
    sharded(rows(rank)).square().mean().backward()
    got = {"fsdp2": gradient_figures(groups_of(sharded), box=True)}
    both = torch.nn.parallel.DistributedDataParallel(model())
    both(rows(rank)).square().mean().backward()
    got["ddp"] = gradient_figures(groups_of(both), box=True)
    # FSDP 1 as its optimizer sees it: flat shards of the averaged gradient, some of them empty.
    shards = []
    for one in groups_of(both):
        parts = []
        for p in one["params"]:
            cut = p.numel() if p.ndim == 1 else p.numel() // 3  # all biases lie on process 0
            span = slice(0, cut) if rank == 0 else slice(cut, None)
            parts.append(parameter(p.detach().flatten()[span], p.grad.flatten()[span]))
        shards.append(one | {"params": parts})
    got["fsdp1"] = gradient_figures(shards, box=True, shards=True)
    torch.save({k: vars(v) for k, v in got.items()}, f"{results}-{rank}")
    dist.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    """Over gloo: sharded and replicated gradients against the whole gradient in one process."""
    whole = model()
    loss = sum(whole(rows(rank)).square().mean() for rank in range(2)) / 2
    loss.backward()
    expected = vars(gradient_figures(groups_of(whole), box=True))
    plain = torch.cat([p.grad.flatten() for p in whole.parameters()])
    assert expected["grad_l1"] == pytest.approx(plain.abs().sum().item(), rel=1e-6)
    given = (str(tmp_path / "store"), str(tmp_path / "got"))
    torch.multiprocessing.start_processes(
        _shard_and_measure, given, nprocs=2, start_method="forkserver"
    )
    for rank in range(2):
        for kind, got in torch.load(tmp_path / f"got-{rank}", weights_only=True).items():
            assert got == pytest.approx(expected, rel=1e-6), kind


@pytest.mark.parametrize("box", [False, True])
def test_lists_of_tensors_as_on_a_gpu_give_the_sums_of_single_ones(box):
    torch.manual_seed(1)
    shapes = [(7, 5), (5,), (90, 300), (0,), (3, 3)]
    held = [(parameter(3 * torch.randn(s), torch.randn(s)), 0.3 * (len(s) > 1)) for s in shapes]
    held[-1][0].grad = None
    one_by_one = torch.stack([theory._sums(p, decay, box, False) for p, decay in held]).sum(0)
    assert theory._sums_of_lists(held, box, False).tolist() == pytest.approx(
        one_by_one.tolist(), rel=1e-6
    )
    assert theory._sums_of_lists(held, box, True)[1] == pytest.approx(one_by_one[1].item())


def test_measuring_changes_nothing():
    net = model()
    net(rows(0)).square().mean().backward()
    before = copy.deepcopy([(p.data, p.grad) for p in net.parameters()])
    gradient_figures(groups_of(net), box=True)
    for p, (weights, gradient) in zip(net.parameters(), before, strict=True):
        assert torch.equal(p.data, weights)
        assert torch.equal(p.grad, gradient)
