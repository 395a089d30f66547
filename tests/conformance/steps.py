"""What the scenarios of vendors' clients share: how a step expects something, and how the steps are run and told."""

import sys


class Mismatch(Exception):
    """The service did something else than a step expects."""


def expect(actual, wanted, what):
    if actual != wanted:
        raise Mismatch(f"{what}: expected {wanted!r}, got {actual!r}")


def expect_true(condition, what):
    if not condition:
        raise Mismatch(what)


def run(steps):
    """Runs steps in order, up to the first that does not hold; ends the program then."""
    for step in steps:
        name = step.__name__.replace("_", " ")
        try:
            step()
        except Mismatch as error:
            print(f"FAIL  {name}: {error}", flush=True)
            sys.exit(1)
        except Exception as error:
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
            raise
        print(f"ok    {name}", flush=True)
    print(f"{len(steps)} steps hold")
