"""What keeps an HTTP request from its response."""


class HttpFault(Exception):
    """There is no whole response; the text says what happened.

    `is_unanswered` means that the connection ended before the first byte of a response: on a connection that was used
    before, the server may have closed it just when the request was sent.
    """

    def __init__(self, text: str, *, is_unanswered: bool = False) -> None:
        super().__init__(text)
        self.is_unanswered = is_unanswered
