"""The options that name a store, declared once for every command that opens one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from controller import settings
from controller.commands.options import (
    EtcdCaOption,
    EtcdCertificateOption,
    EtcdKeyOption,
    EtcdPasswordOption,
    EtcdUserOption,
    StoreOption,
)
from controller.store.etcd.cluster import Certificates, is_url
from controller.store.opening import StoreChoice


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """The values of the options, not checked yet."""

    store: StoreOption = settings.DEFAULT_STORE
    etcd_ca: EtcdCaOption = None
    etcd_cert: EtcdCertificateOption = None
    etcd_key: EtcdKeyOption = None
    etcd_user: EtcdUserOption = None
    etcd_password_file: EtcdPasswordOption = None

    def choice(self) -> StoreChoice:
        """Return the store that the options name; raise `InvalidValue` that names the option."""
        certificates = Certificates(self.etcd_ca, self.etcd_cert, self.etcd_key)
        return settings.parse_store(self.store, certificates, self.etcd_user, self.etcd_password_file)

    def choice_of(self, store: str) -> StoreChoice:
        """Return the store with another name, a file or a URL; the etcd options count for the URL only.

        Raises `InvalidValue` that names the option, also when only the service can use the store.
        """
        options = StoreOptions(**{**self.values(), "store": store}) if is_url(store) else StoreOptions(store)
        chosen = options.choice()
        settings.check_for_everybody(chosen)
        return chosen

    def values(self) -> dict[str, Any]:
        """Return the values by the names of their options."""
        return {name: getattr(self, name) for name in _OPTIONS}


_OPTIONS = inspect.signature(StoreOptions).parameters


def takes_store(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a store in place of its argument `store`, which gets them as `StoreOptions`."""

    @wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401 - whatever the command's options are
        store = StoreOptions(**{name: values.pop(name) for name in _OPTIONS})
        command(**values, store=store)

    signature = inspect.signature(command)
    parameters = list[inspect.Parameter]()
    for parameter in signature.parameters.values():
        parameters += _OPTIONS.values() if parameter.name == "store" else [parameter]
    by_name = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = signature.replace(parameters=by_name)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in by_name}
    return run
