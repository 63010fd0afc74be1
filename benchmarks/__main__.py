"""``python -m benchmarks``: run every benchmark and print a line for each."""

from benchmarks import eval_cost, plan, sensitivity, startup

if __name__ == "__main__":
    for benchmark in (startup, plan, eval_cost, sensitivity):
        print(benchmark.measure(), flush=True)
