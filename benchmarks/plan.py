"""How long a plan of 10,000 combinations takes, on one core."""

import time

_COMBINATIONS = 10_000


def measure() -> str:
    """Seconds for every combination of formats, devices and degrees, the model's shape included."""
    from runner.api import compose_config
    from runner.planning.devices import device_names, read_device
    from runner.planning.formats import find_format
    from runner.planning.model_shape import Shape
    from runner.planning.planner import Question, make_plan

    config = compose_config(["model=llama31_70b", "plan=serve_70b"])
    config.plan.tensor_parallel = [1, 2, 4, 8]
    devices = tuple(read_device(name) for name in device_names())
    labels = [
        f"w{bits}a16-g{group}{zero}"
        for bits in range(2, 9)
        for group in (16, 32, 64, 128)
        for zero in ("", "-asym")
    ]
    needed = -(-_COMBINATIONS // (len(devices) * len(config.plan.tensor_parallel)))
    # Groups of odd sizes fill up what is lacking: they fit nothing less well than usual ones.
    labels += [f"w4a16-g{group}" for group in range(256, 256 + needed - len(labels))]
    formats = tuple(find_format(label) for label in labels)
    start, busy = time.perf_counter(), time.process_time()
    question = Question(Shape(config.model.architecture), formats, devices, config.plan)
    found = make_plan(question)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return f"planning {len(found):,} combinations: {seconds:.2f} s ({busy:.2f} s of processor)"
