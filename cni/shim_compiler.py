"""A program that compiles the Python launcher: reads its source from stdin, and prints an executable file.

The file holds the source and what it was compiled to. The interpreter that compiled it takes the latter, and saves
most of the time until its first request; any other one compiles the source. It is executed by the interpreter in the
first line of the source, which need not be the one of the agent.
"""

import marshal
import sys

_FILE = """\
{first_line}
# The Python launcher of overlayd (cni/shim.py): its source, and the same compiled for one release of Python.
import marshal
import sys

SOURCE = r'''{source}'''

COMPILED_FOR = {release!r}
COMPILED = {compiled!r}

exec(marshal.loads(COMPILED) if COMPILED_FOR == (sys.implementation.name, sys.hexversion) else SOURCE)
"""

_MARSHAL_VERSION = 2
"""Of later versions the bytes differ from run to run: they tell which objects had several references."""


def main() -> None:
    """Compile stdin."""
    source = sys.stdin.buffer.read().decode()
    code = compile(source, "overlayd", "exec", optimize=2)  # without the docstrings
    compiled = marshal.dumps(code, _MARSHAL_VERSION)
    release = (sys.implementation.name, sys.hexversion)
    text = _FILE.format(first_line=source.partition("\n")[0], source=source, release=release, compiled=compiled)
    sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
    main()
