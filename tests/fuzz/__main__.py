"""A fuzzer for the path of records and batches: ``python -m fuzz`` in ``tests``, or ``make fuzz``.

It damages batches of every kind and compares what the core makes of them with slow oracles, until
its time is over. It prints its seed, and with a failure how to repeat that very case.

There is no coverage-guided library in it. atheris, the one for Python, has to be compiled into the
core with clang's libFuzzer, which neither gcc nor the builds for other platforms have, and its
wheels follow Python's versions late. Random changes would also rarely get past CRCs and codecs;
that takes a mutator which knows the format, and ``corpus`` is one. ``make sanitize`` runs it under
the sanitizers.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--case", type=int, help="only this one")
    given = parser.parse_args()
    from fuzz.targets import case  # noqa: PLC0415 - the arguments are read without the core

    told: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    print(f"fuzz: seed {given.seed}", flush=True)
    faulthandler.enable()
    end = time.monotonic() + given.seconds
    number = given.case or 0
    while time.monotonic() < end:
        # A case that never ends says where it hangs, and ends the run.
        faulthandler.dump_traceback_later(120, exit=True)
        try:
            kinds[case(given.seed, number, told)] += 1
        except Exception:
            traceback.print_exc()
            print(f"fuzz: repeat it with --seed {given.seed} --case {number}", file=sys.stderr)
            return 1
        number += 1
        if given.case is not None:
            break
    faulthandler.cancel_dump_traceback_later()
    print(f"fuzz: {sum(kinds.values())} cases: {dict(sorted(kinds.items()))}")
    print(f"fuzz: {dict(sorted(told.items()))}")
    return 0


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS)]
    sys.exit(main())
