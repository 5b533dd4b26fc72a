"""Command ``mtlsi-net``, which lists or runs commands: ``mtlsi-net train ...`` is ``python -m mtlsi_net.train ...``."""

import ast
import runpy
import sys
from importlib import resources

from mtlsi_net.cli.help import HELP
from mtlsi_net.core.errors import nearest_names


def commands() -> dict[str, str]:
    """Return command -> what it does, from its module's docstring; a command is a module with a configuration of its name."""
    package, conf = resources.files("mtlsi_net"), resources.files("mtlsi_net.conf")
    names = sorted(file.name.removesuffix(".yaml") for file in conf.iterdir() if file.name.endswith(".yaml"))
    purposes = {}
    for name in names:
        source = package.joinpath(f"{name}.py")
        if source.is_file():
            purposes[name] = (ast.get_docstring(ast.parse(source.read_text())) or "").partition(":")[0]
    return purposes


def listing() -> str:
    """Return the usage and all commands, one a line."""
    known = commands()
    width = max(map(len, known))
    lines = [f"  {name:{width}}  {purpose}" for name, purpose in known.items()]
    return "\n".join(
        ["mtlsi-net COMMAND [key=value ...]", "", *lines, "", "mtlsi-net COMMAND --help lists its settings."]
    )


def main() -> None:
    """Run the command that the first word names, with the rest as its own command line."""
    words = sys.argv[1:]
    if not words or words[0] in HELP:
        print(listing())
        return
    name, known = words[0].replace("-", "_"), commands()
    if name not in known:
        print(f"error: {words[0]!r} is not a command; {nearest_names(name, known)}", file=sys.stderr)
        sys.exit(2)
    sys.argv[1:] = words[1:]
    sys.orig_argv[1:] = ["-m", f"mtlsi_net.{name}", *words[1:]]  # the command that records name
    runpy.run_module(f"mtlsi_net.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
