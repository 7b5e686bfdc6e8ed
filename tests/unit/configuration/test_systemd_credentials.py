"""Where a command finds the credentials that a service would be handed."""

from pathlib import Path

from overlayd.configuration.systemd_credentials import STORES, is_encrypted, kept


def test_the_first_store_that_has_it_counts(tmp_path: Path) -> None:
    stores = (tmp_path / "missing", tmp_path / "first", tmp_path / "second")
    for store in stores[1:]:
        store.mkdir()
    assert kept("prog.key", stores) is None
    (stores[2] / "prog.key").write_text("secret")
    assert kept("prog.key", stores) == stores[2] / "prog.key"
    (stores[1] / "prog.key").mkdir()
    assert kept("prog.key", stores) == stores[2] / "prog.key", "a directory is none"
    (stores[1] / "prog.key").rmdir()
    (stores[1] / "prog.key").write_text("another")
    assert kept("prog.key", stores) == stores[1] / "prog.key"


def test_what_only_systemd_can_read_is_seen_last() -> None:
    encrypted = [is_encrypted(store / "prog.key") for store in STORES]
    assert encrypted == sorted(encrypted)
    assert STORES[0] == Path("/run/credentials/@system"), "what the machine got goes first"
    assert STORES[1] == Path("/etc/credstore")
