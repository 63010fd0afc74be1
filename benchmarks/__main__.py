"""``python -m benchmarks [NAME ...]``: run these benchmarks, or all, and print a line for each."""

import argparse

from benchmarks import (
    composition,
    eval_cost,
    overhead,
    plan,
    sensitivity,
    speed_noise,
    startup,
    sweep_sharing,
    tracking,
)

BENCHMARKS = {
    one.__name__.rpartition(".")[2]: one
    for one in (
        startup,
        composition,
        plan,
        eval_cost,
        sensitivity,
        speed_noise,
        tracking,
        overhead,
        sweep_sharing,
    )
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Timings, as ratios.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all by default"
    )
    names = parser.parse_args().names
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(
            f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}"
        )
    for name in names or BENCHMARKS:
        print(BENCHMARKS[name].measure(), flush=True)


if __name__ == "__main__":
    main()
