"""Step ``serving``: an engine's server under load."""

from dataclasses import replace

from runner.config.renamed import names_of_keys
from runner.config.schema.root import StageName
from runner.engines import find_engine
from runner.engines.loading import specification
from runner.engines.server import Requests
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import Inputs, engine_determinants, engine_versions
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.serving import ServingRequest
from runner.planning.compute import model_config
from runner.util.serialise import to_json

LOAD_GENERATOR = "guidellm"


def serving(inputs: Inputs, subject: Subject, model: Subject) -> Obtained:
    """A subject's server: measured once a sweep, or taken from the store if asked for."""
    load, settings = inputs.config.serving, inputs.config.engine
    subject = inputs.presented(subject)
    engine = find_engine(settings.name)
    own = inputs.environment(settings.name, settings.environment)
    generator = inputs.environment(LOAD_GENERATOR)
    asked = inputs.load(subject, settings)
    config = {} if inputs.only_looks else model_config(model.directory)
    end: int | list[int] | None = config.get("eos_token_id")
    command = engine.server(
        specification(asked, inputs.compute.threads),
        Requests(
            model.directory,
            [] if end is None else end if isinstance(end, list) else [end],
            load.prompt_tokens + load.new_tokens,
        ),
    )
    assert command is not None  # legality has refused engines without a server
    request = ServingRequest(
        engine=settings.name,
        checkpoint=subject.directory,
        tokenizer_directory=model.directory,
        python=own.python,
        variables=own.variables,
        command=command,
        load=replace(load, reuse=False),
    )
    determinants = {
        "subject": subject.identity,
        "tokenizer": model.identity,
        **engine_determinants(asked),
        "load": names_of_keys("serving", to_json(request.load)),
        "threads": inputs.compute.threads,
        "machine": inputs.session.machine.to_dict(),
        "versions": {
            **engine_versions(own, settings.name),
            **generator.versions((LOAD_GENERATOR,)),
        },
    }
    if not load.reuse:
        determinants["measured_in"] = inputs.sweep
    force = StageName.serving in inputs.config.force
    task = inputs.task("serving", request, generator)
    return inputs.session.obtain(Work(f"serving {subject.label}", task, determinants, force))
