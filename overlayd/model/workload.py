"""What a runtime tells of the workload behind an endpoint: people and tools find it by that, nothing depends on it."""

from dataclasses import dataclass

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

TEXT_MAX = 253
"""Characters: a pod's name is a DNS name (RFC 1123), which has no more."""

COUNT_MAX = 64
"""Labels, and aliases."""

SIZE_MAX = 1500
"""Characters of all labels and aliases: hosts publish endpoints by the hundred, in bodies of bounded size."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod of a Kubernetes cluster (or what another runtime calls one); what was not told is empty."""

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
    """A pod, labels sorted by their key, and further names by which others may know it."""

    pod: Pod | None = None
    labels: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        labels = [text for label in self.labels for text in label]
        for field, count, texts in (("labels", len(self.labels), labels), ("aliases", len(self.aliases), self.aliases)):
            if count > COUNT_MAX:
                raise InvalidValue(f"{count} are more than {COUNT_MAX}", field=field)
            if sum(map(len, texts)) > SIZE_MAX:
                raise InvalidValue(f"have more than {SIZE_MAX} characters", field=field)
            for text in texts:
                _check(text, field)
        if list(self.labels) != sorted(dict(self.labels).items()) or any(not key for key, _ in self.labels):
            raise InvalidValue("are not in order, or a key is empty or there twice", field="labels")


UNKNOWN = Workload()
"""What most runtimes tell: nothing."""


def _check(text: str, field: str) -> None:
    if len(text) > TEXT_MAX:
        raise InvalidValue(f"{quoted(text)} is longer than {TEXT_MAX} characters", field=field)
    if not (text.isascii() and text.isprintable()):
        raise InvalidValue(f"{quoted(text)} holds other than printable ASCII characters", field=field)
