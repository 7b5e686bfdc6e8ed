"""A workload as JSON, in records and in the API: five fields of its endpoint."""

from overlayd.model.endpoint import Pod, Workload
from overlayd.wire.fields import Fields, Json

FIELDS = frozenset({"pod", "labels", "aliases", "runtime", "workload"})
_POD = ("namespace", "name", "uid", "infra_container_id")


def decode(fields: Fields) -> Workload:
    """Read `pod`, `labels`, `aliases`, `runtime` and `workload`, each of which may be missing.

    The last one is the workload's name. Raises `InvalidValue`.
    """
    pod = _decode_pod(fields.object("pod")) if fields.has("pod") else None
    labels = texts(fields.object("labels")) if fields.has("labels") else {}
    aliases = fields.texts("aliases") if fields.has("aliases") else []
    runtime, name = (fields.text(each) if fields.has(each) else "" for each in ("runtime", "workload"))
    return fields.build(lambda: Workload(pod, tuple(sorted(labels.items())), tuple(aliases), runtime, name))


def encode(workload: Workload) -> dict[str, Json]:
    """Return the fields of a workload."""
    pod = workload.pod
    return {
        "pod": {name: getattr(pod, name) for name in _POD} if pod else None,
        "labels": dict(workload.labels),
        "aliases": list(workload.aliases),
        "runtime": workload.runtime,
        "workload": workload.name,
    }


def texts(fields: Fields) -> dict[str, str]:
    """Return an object all of whose values are strings; raise `InvalidValue`."""
    return {name: fields.text(name) for name in fields.value}


def _decode_pod(fields: Fields) -> Pod:
    given = {name: fields.text(name) for name in _POD if fields.has(name)}
    return fields.build(lambda: Pod(**given))
