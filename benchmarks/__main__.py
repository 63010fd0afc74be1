"""``python -m benchmarks``: run every benchmark and print a line for each."""

from benchmarks import eval_cost, plan, startup

if __name__ == "__main__":
    for benchmark in (startup, plan, eval_cost):
        print(benchmark.measure(), flush=True)
