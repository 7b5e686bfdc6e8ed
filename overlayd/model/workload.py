"""What a runtime reports about the workload of an endpoint, for people and tools. Forwarding does not depend on it."""

from dataclasses import dataclass

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

TEXT_MAX = 253
"""Characters. A pod's name is a DNS name (RFC 1123), which has at most as many."""

COUNT_MAX = 64
"""The largest number of labels, and of aliases."""

SIZE_MAX = 1500
"""Characters of all labels, or of all aliases: hosts publish hundreds of endpoints in one body of bounded size."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of Kubernetes, or of another runtime that has pods. A field that the runtime does not report is empty."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    infra_container_id: str = ""

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        for field in ("namespace", "name", "uid", "infra_container_id"):
            _check(getattr(self, field), field)


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod, labels in the order of their keys, and alternative names."""

    pod: Pod | None = None
    labels: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        labels = [text for label in self.labels for text in label]
        for field, count, texts in (("labels", len(self.labels), labels), ("aliases", len(self.aliases), self.aliases)):
            if count > COUNT_MAX:
                raise InvalidValue(f"{count} entries are more than {COUNT_MAX}", field=field)
            if sum(map(len, texts)) > SIZE_MAX:
                raise InvalidValue(f"have more than {SIZE_MAX} characters", field=field)
            for text in texts:
                _check(text, field)
        if list(self.labels) != sorted(dict(self.labels).items()) or any(not key for key, _ in self.labels):
            raise InvalidValue("must be in the order of their keys, and each key unique and not empty", field="labels")


UNKNOWN = Workload()
"""What most runtimes report: nothing."""


def _check(text: str, field: str) -> None:
    if len(text) > TEXT_MAX:
        raise InvalidValue(f"{quoted(text)} is longer than {TEXT_MAX} characters", field=field)
    if not (text.isascii() and text.isprintable()):
        raise InvalidValue(f"{quoted(text)} contains characters other than printable ASCII", field=field)
