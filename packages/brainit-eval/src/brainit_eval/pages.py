"""HTML pages from templates: all text is escaped, and a name that is not given is an error."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(package: str, **values: Any) -> str:
    """Render the template ``page.html.j2`` that lies in a package.

    Args:
        package: Its name, such as ``brainit_eval.report``.
        **values: What the template asks for.
    """
    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(values)
