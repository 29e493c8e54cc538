"""How far the logits of two runs of logits --values are from each other: prints the largest difference as a share of their spread, and
fails if that is more than TOLERANCE, or nothing at all.

    nearness.py FIRST SECOND TOLERANCE"""
import statistics
import sys


def values(path):
    """Of the batches: what is generated may differ, and then what follows it."""
    with open(path) as file:
        lines = file.read().splitlines()
    last = max(at for at, line in enumerate(lines) if line.startswith("batch"))
    return [float(line) for line in lines[:last] if not line.startswith("batch")]


first, second = (values(path) for path in sys.argv[1:3])
assert len(first) == len(second), "different numbers of logits"
furthest = max(abs(a - b) for a, b in zip(first, second))
share = furthest / statistics.pstdev(first)
print(f"{share:.1e}")
sys.exit(not 0 < share <= float(sys.argv[3]))
