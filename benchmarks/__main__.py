"""``python -m benchmarks``: run every benchmark and print a line for each."""

from benchmarks import eval_cost, plan, sensitivity, speed_noise, startup

if __name__ == "__main__":
    for benchmark in (startup, plan, eval_cost, sensitivity, speed_noise):
        print(benchmark.measure(), flush=True)
