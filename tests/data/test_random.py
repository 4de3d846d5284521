"""Counter-based random numbers: published vectors, a big-integer reference, laws, and independence."""

import math

import pytest
import torch

from isosphere.data._random import normal, permutation, philox, random_words, uniform


def philox_reference(counter, key):
    """Philox4x32-10 on Python integers, which cannot overflow."""
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k[0], b % 2**32, (a >> 32) ^ x[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(x)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known-answer vectors published with Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert philox_reference(counter, key) == expected
    c0, c1, c2, c3 = (torch.tensor([c]) for c in counter)
    words = philox((c0, c1, c2, c3), key)
    assert tuple(int(w) for w in words) == expected


def test_words_equal_the_big_integer_reference():
    seed, epoch, stream = 2**63 + 12345, 7, 3
    index = torch.tensor([0, 1, 2**31, 2**32 - 1])
    words = random_words(seed, epoch, index, stream, 10)
    for row, i in enumerate(index.tolist()):
        key = (seed % 2**32, seed // 2**32)
        expected = [w for b in range(3) for w in philox_reference((i, epoch, b, stream), key)][:10]
        assert words[row].tolist() == expected


def test_uniform_numbers_follow_the_uniform_law():
    u = uniform(0, 0, torch.arange(20_000), 0, 8)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.double().T:  # Kolmogorov–Smirnov, level about 1e-4 a column
        steps = torch.arange(1, len(column) + 1) / len(column)
        distance = (column.sort().values - steps).abs().max().item()
        assert distance < 2.2 / math.sqrt(len(column))


def test_counters_are_independent():
    n = 20_000
    index = torch.arange(n)
    draws = [
        uniform(0, 0, index, 0, 3),
        uniform(1, 0, index, 0, 3),
        uniform(0, 1, index, 0, 3),
        uniform(0, 0, index, 1, 3),
        uniform(0, 0, index + n, 0, 3),
        uniform(2**32, 0, index, 0, 3),
    ]
    columns = torch.cat([*draws, draws[0].roll(1, 0)], dim=1).double()
    off_diagonal = torch.corrcoef(columns.T).fill_diagonal_(0)
    assert off_diagonal.abs().max() < 4.5 / math.sqrt(n)


def test_normal_numbers_follow_the_normal_law():
    z = normal(3, 1, torch.arange(50_000), 2, 3).double()
    assert z.mean(0).abs().max() < 4.5 / math.sqrt(len(z))
    for column in z.T:
        cdf = 0.5 * (1 + torch.erf(column.sort().values / math.sqrt(2)))
        distance = (cdf - torch.arange(1, len(cdf) + 1) / len(cdf)).abs().max().item()
        assert distance < 2.2 / math.sqrt(len(cdf))
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max() < 4.5 / math.sqrt(len(z))


@pytest.mark.parametrize("draw", [uniform, normal])
def test_company_and_count_do_not_matter(draw):
    together = draw(5, 2, torch.tensor([9, 4, 7, 4]), 1, 9)
    torch.testing.assert_close(draw(5, 2, torch.tensor([7]), 1, 9)[0], together[2], rtol=0, atol=0)
    torch.testing.assert_close(together[1], together[3], rtol=0, atol=0)
    torch.testing.assert_close(draw(5, 2, torch.tensor([9]), 1, 4)[0], together[0, :4], rtol=0, atol=0)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    normal(0, 0, torch.arange(4), 0, 4)
    permutation(10, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: the CPU has nothing to be compared with"
)
def test_devices_agree():
    index = torch.arange(1000)
    assert torch.equal(uniform(1, 2, index, 3, 7), uniform(1, 2, index.cuda(), 3, 7).cpu())
    torch.testing.assert_close(
        normal(1, 2, index, 3, 7), normal(1, 2, index.cuda(), 3, 7).cpu(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_holds_each_integer_once(n):
    assert torch.equal(permutation(n, 0, 0).sort().values, torch.arange(n))


def test_permutation_is_uniform_and_depends_on_seed_and_epoch():
    counts = torch.zeros(4, 4)
    for seed in range(4000):
        counts[torch.arange(4), permutation(4, seed, 0)] += 1
    chi2 = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi2 < 30  # 9 degrees of freedom: 1 in 2000
    assert torch.equal(permutation(100, 1, 2), permutation(100, 1, 2))
    assert not torch.equal(permutation(100, 1, 2), permutation(100, 1, 3))
    assert not torch.equal(permutation(100, 1, 2), permutation(100, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, torch.arange(2), 0, 1), "seed is -1"),
        ((0, -1, torch.arange(2), 0, 1), "epoch is -1"),
        ((0, 0, torch.arange(2), 2**32, 1), "stream is"),
        ((0, 0, torch.arange(2), 0, -1), "count is -1"),
        ((0, 0, torch.rand(2), 0, 1), "expected \\(n,\\) integers"),
        ((0, 0, torch.zeros(2, 2, dtype=torch.int64), 0, 1), "expected \\(n,\\) integers"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        uniform(*arguments)
