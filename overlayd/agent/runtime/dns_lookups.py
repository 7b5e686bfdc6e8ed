"""DNS lookups that do not delay shutdown, or tasks that do not need them, while a resolver is silent."""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

_Found = list[Any]
_Asked = tuple[Any, Any, int, int, int, int]


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose lookups end with the process.

    asyncio makes lookups in a small pool of threads, for which a process waits at its end: 20 seconds and more while
    nameservers do not answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[_Asked, asyncio.Future[_Found | OSError]] = {}

    async def getaddrinfo(  # noqa: PLR0913 - as the interface has it
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> _Found:
        """Do as socket.getaddrinfo. Concurrent lookups of one name are one query."""
        question = (host, port, family, type, proto, flags)
        asked = self._asked.get(question)
        if asked is None:
            thread = threading.Thread(target=self._look_up, args=(question,), name=f"lookup of {host!r}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # threading: the system has no room for one more thread
                raise socket.gaierror(socket.EAI_AGAIN, str(error)) from error
            asked = self._asked[question] = self.create_future()
        found = await asyncio.shield(asked)
        if isinstance(found, OSError):
            raise found
        return found

    def _look_up(self, question: _Asked) -> None:
        found: _Found | OSError
        try:
            found = socket.getaddrinfo(*question)
        except OSError as error:
            found = error
        except UnicodeError as error:  # a name that no nameserver is asked for
            found = socket.gaierror(socket.EAI_NONAME, str(error))
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._answer, question, found)

    def _answer(self, question: _Asked, found: _Found | OSError) -> None:
        self._asked.pop(question).set_result(found)
