"""Docstrings of configuration fields, read from the dataclasses' source."""

import ast
import inspect


def field_docs(owner: type) -> dict[str, str]:
    """What is said of each field of a dataclass and its bases, by the field's name."""
    documented: dict[str, str] = {}
    for base in reversed(owner.__mro__[:-1]):
        tree = ast.parse(inspect.getsource(base).lstrip()).body[0]
        assert isinstance(tree, ast.ClassDef)
        for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            documented.pop(node.target.id, None)
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                documented[node.target.id] = inspect.cleandoc(str(after.value.value))
    return documented
