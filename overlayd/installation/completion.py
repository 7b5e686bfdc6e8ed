"""Completion scripts for shells, which run the program itself to complete a line, by typer's protocol."""

from collections.abc import Mapping
from string import Template
from types import MappingProxyType

SCRIPTS: Mapping[str, Template] = MappingProxyType(
    {
        "bash": Template(
            """\
_${name}_complete() {
    local IFS=$$'\\n'
    mapfile -t COMPREPLY < <(COMP_WORDS="$${COMP_WORDS[*]}" COMP_CWORD=$$COMP_CWORD ${variable}=complete_bash "$$1")
}
complete -o default -F _${name}_complete ${program}
"""
        ),
        "zsh": Template(
            """\
#compdef ${program}
eval "$$(_TYPER_COMPLETE_ARGS="$${words[1,$$CURRENT]}" ${variable}=complete_zsh ${program})"
"""
        ),
        "fish": Template(
            """\
complete --command ${program} --no-files \\
    --condition '${variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=is-args \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) ${program}' \\
    --arguments '(${variable}=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) ${program})'
"""
        ),
    }
)


def completion(shell: str, program: str) -> str:
    """Return the completion script of a program for a shell, one of `SCRIPTS`."""
    name = program.replace("-", "_")
    return SCRIPTS[shell].substitute(program=program, name=name, variable=f"_{name.upper()}_COMPLETE")
