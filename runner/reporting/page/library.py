"""The chart library: Vega-Lite from vl-convert, without network."""

from importlib.metadata import version
from pathlib import Path

from runner.store.files import write_text_atomically


def chart_script(cache: Path) -> str:
    """JavaScript that defines ``vegaEmbed``; put together once for each version, then kept."""
    import vl_convert

    cached = cache / "report" / f"vl-convert-{version('vl-convert-python')}.js"
    if not cached.is_file():
        script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        script = script.replace("</script", "<\\/script")  # it stands inside a script element
        try:
            write_text_atomically(cached, script)
        except OSError:  # a store that is only read from
            return script
    return cached.read_text("utf-8")
