"""Writes pages about the Python packages from the docstrings in their source, without importing it."""

import ast
import pathlib
import re
import textwrap
from collections.abc import Iterator

MODULES = [
    "partd_go",
    "partd_go.tables",
    "partd_go.dask",
    "partd_go.pystore",
    "partd_go.pystore.collection",
    "partd_go.pystore.item",
    "partd_go.stage",
    "partd_go.pull",
]


def write(source: pathlib.Path, docs: pathlib.Path) -> list[str]:
    """Writes a page for each module, with its functions and exceptions, and one for each of its other classes. source
    contains the package partd_go. Returns the pages' paths below docs."""
    pages = []
    (docs / "python/reference").mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        path, tree = parse(source, module)
        text, own = [f"# {module}\n", describe(tree)], []
        for name in exported(tree):
            definition, at = find(path, name)
            if isinstance(definition, ast.ClassDef) and not is_exception(definition, at):
                own.append(f"python/reference/{module}.{name}.md")
                (docs / own[-1]).write_text(f"# {module}.{name}\n\n{describe_class(definition, at, module)}")
                text.append(f"## [{name}]({module}.{name}.md)\n\n{first_sentence(definition)}\n")
            elif definition:
                text.append(f"## {name}\n\n{signature(definition)}{describe(definition)}")
        page = f"python/reference/{module}.md"
        (docs / page).write_text("\n".join(text))
        pages += [page, *own]
    return pages


def parse(source: pathlib.Path, module: str) -> tuple[pathlib.Path, ast.Module]:
    path = source / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path, ast.parse(path.read_text())


def exported(tree: ast.Module) -> list[str]:
    """Returns the names in a module's __all__ or, without it, of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def find(path: pathlib.Path, name: str) -> tuple[ast.ClassDef | ast.FunctionDef | None, pathlib.Path]:
    """Finds the definition of a name of a module, which may import it from another module of the package. Returns the
    definition, or None if the name is only a second name or a value, and the file of the definition."""
    tree = ast.parse(path.read_text())
    for node in reversed(tree.body):  # the last of several overloads has the docstring
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node, path
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.level
            and node.module
            and name in [a.asname or a.name for a in node.names]
        ):
            target = path.parents[node.level - 1].joinpath(*node.module.split("."))
            file = target / "__init__.py" if target.is_dir() else target.with_suffix(".py")
            original = next(a.name for a in node.names if name == (a.asname or a.name))
            return find(file, original)
    return None, path


def bases(definition: ast.ClassDef, path: pathlib.Path) -> Iterator[tuple[ast.ClassDef, pathlib.Path]]:
    """Yields the class, and then its base classes in the package."""
    yield definition, path
    for base in definition.bases:
        found, at = find(path, ast.unparse(base).split("[")[0])
        if isinstance(found, ast.ClassDef):
            yield from bases(found, at)


def is_exception(definition: ast.ClassDef, path: pathlib.Path) -> bool:
    names = {ast.unparse(base) for c, _ in bases(definition, path) for base in c.bases}
    return any(name.endswith(("Error", "Exception", "Warning")) for name in names)


def describe_class(definition: ast.ClassDef, path: pathlib.Path, module: str) -> str:
    fields, methods = [], {}
    for cls, _ in bases(definition, path):
        for node in cls.body:
            if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
                fields.append(ast.unparse(node))
        for node in reversed(cls.body):  # the last of several overloads has the docstring
            is_method = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_method and (not node.name.startswith("_") or node.name == "__init__" and ast.get_docstring(node)):
                methods.setdefault(node.name, f"## {node.name}\n\n{signature(node)}{describe(node)}")
            for name, owner in derived(node):
                methods.setdefault(name, f"## {name}\n\nSee [{owner}.{name}]({module}.{owner}.md#{name}).\n")
    shown = [code("\n".join(fields))] if fields else []
    return "\n".join([describe(definition), *shown, *(methods[name] for name in sorted(methods))])


def derived(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields the names of methods that a class derives from those of another class, as in get = _in_thread(Tables.get),
    and the other class."""
    if isinstance(node, ast.Assign):
        for call in ast.walk(node.value):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Attribute):
                yield call.args[0].attr, ast.unparse(call.args[0].value)


def signature(node: ast.AST) -> str:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ""
    if any(ast.unparse(d) == "property" for d in node.decorator_list):
        return code(f"{node.name}: {ast.unparse(node.returns) if node.returns else 'Any'}") + "\n"
    start = f"{'async ' * isinstance(node, ast.AsyncFunctionDef)}{node.name}("
    end = f") -> {ast.unparse(node.returns)}" if node.returns else ")"
    listed = parameters(node.args)
    text = start + ", ".join(listed) + end
    if len(text) > 90:
        text = start + "".join(f"\n    {p}," for p in listed) + "\n" + end
    return code(text) + "\n"


def parameters(a: ast.arguments) -> list[str]:
    """Returns the parameters of a function as in its source, without self."""

    def text(p: ast.arg, default: ast.expr | None) -> str:
        return ast.unparse(p) + (f" = {ast.unparse(default)}" if default else "")

    positional = [*a.posonlyargs, *a.args]
    out = [text(p, d) for p, d in zip(positional, [None] * (len(positional) - len(a.defaults)) + a.defaults)]
    if a.posonlyargs:
        out.insert(len(a.posonlyargs), "/")
    if a.vararg:
        out.append("*" + ast.unparse(a.vararg))
    elif a.kwonlyargs:
        out.append("*")
    out += [text(p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg:
        out.append("**" + ast.unparse(a.kwarg))
    return [p for p in out if p != "self"]


def code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def first_sentence(node: ast.ClassDef) -> str:
    return escape(re.split(r"(?<=\.)\s", " ".join((ast.get_docstring(node) or "").split()))[0])


def describe(node: ast.AST) -> str:
    """Converts a docstring to Markdown. The lines after "Args:" or "Attributes:" become a list. Other indented lines
    are code."""

    def as_list(section: re.Match[str]) -> str:
        title = section[1].replace("Args", "Arguments")
        items = re.sub(r"^ {4}(?! )", "- ", section[2], flags=re.MULTILINE)
        return f"{title}:\n\n" + re.sub(r"^ {8}", "  ", items, flags=re.MULTILINE)

    doc = (ast.get_docstring(node) or "") + "\n"
    doc = re.sub(r"^(Args|Attributes):\n((?: {4}.*\n)+)", as_list, doc, flags=re.MULTILINE)
    out = []
    for part in re.split(r"((?:^ {4}.*\n+)+)", doc, flags=re.MULTILINE):
        if part.startswith("    "):
            out.append(code(textwrap.dedent(part).strip()))
        else:
            out.append(escape(part))
    return "\n".join(out)


def escape(text: str) -> str:
    return re.sub(r"[*_<\[]", lambda m: "\\" + m[0], text)
