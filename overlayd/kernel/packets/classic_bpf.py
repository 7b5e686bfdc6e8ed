"""Programs of classic BPF: instructions, labels and their assembler. Pure.

A load beyond the end of the frame ends the program with 0. Loads are in network byte order (linux/filter.h).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

INSTRUCTION = struct.Struct("=HBBI")
"""struct sock_filter: code, how many instructions to skip if so, and if not, and a number."""

LOADS = {4: 0x20, 2: 0x28, 1: 0x30}
INDEXED_LOADS = {4: 0x40, 2: 0x48, 1: 0x50}
"""Opcodes that load this many bytes from an offset, and from an offset after the index."""

LOAD_LENGTH, LOAD_NUMBER, LOAD_KEPT, KEEP = 0x80, 0x00, 0x60, 0x02
INDEX_NUMBER, INDEX_IPV4_HEADER, INDEX_LOADED = 0x01, 0xB1, 0x07
ADD, ADD_INDEX, SUBTRACT_INDEX, SHIFT_LEFT, AND = 0x04, 0x0C, 0x1C, 0x64, 0x54
JUMP, JUMP_IF_EQUAL, JUMP_IF_INDEX, JUMP_IF_AT_LEAST, JUMP_IF_AT_LEAST_INDEX = 0x05, 0x15, 0x1D, 0x35, 0x3D
RETURN = 0x06


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. A jump goes to `label`; a conditional one without it skips `then` or `otherwise` steps."""

    code: int
    value: int = 0
    then: int = 0
    otherwise: int = 0
    label: str = ""


Line = Step | str
"""An instruction, or a label before the next one."""


def assembled(lines: Iterable[Line]) -> bytes:
    """Return the program as an array of struct sock_filter."""
    places: dict[str, int] = {}
    steps: list[Step] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(steps)
        else:
            steps.append(line)
    code = bytearray()
    for number, step in enumerate(steps, 1):
        value, then = step.value, step.then
        if step.code == JUMP:
            value = places[step.label] - number
        elif step.label:
            then = places[step.label] - number
        code += INSTRUCTION.pack(step.code, then, step.otherwise, value)
    return bytes(code)


def to(label: str) -> Step:
    """Return a jump to a label further down."""
    return Step(JUMP, label=label)


def when(value: int, step: Step) -> Iterator[Line]:
    """Yield a step that is taken when the loaded value is this one."""
    yield from (Step(JUMP_IF_EQUAL, value, otherwise=1), step)


def unless(value: int, step: Step) -> Iterator[Line]:
    """Yield a step that is taken when the loaded value is not this one."""
    yield from (Step(JUMP_IF_EQUAL, value, then=1), step)


def when_words(content: bytes, loads: dict[int, int], offset: int, step: Step) -> Iterator[Line]:
    """Yield a step that is taken when this content, of whole words, is at this offset."""
    for start in range(0, len(content), 4):
        yield Step(loads[4], offset + start)
        remaining = (len(content) - 4 - start) // 2 + 1
        yield Step(JUMP_IF_EQUAL, int.from_bytes(content[start : start + 4]), otherwise=remaining)
    yield step
