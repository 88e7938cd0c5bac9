"""Signing keys: one signs, several verify. Checkpoints, publications, versions and commands are signed with them.

Keys come from the environment variable `STREAMLEARN_KEYS` (`id:hex,id:hex`, the first one signs), from the file that
`STREAMLEARN_KEYS_FILE` names or, on a laptop, from a file that is made on first use, readable by its owner alone. This
module never logs a key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import logs
from .errors import BadSignature, ConfigError


class KeyRing:
    """HMAC-SHA256 keys by id, in order: the first signs, each verifies.

    Raises ConfigError when empty, or when a key is shorter than 16 bytes.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigError("STREAMLEARN_KEYS", "holds no key", "Set it to id:hex, for instance k1:$(openssl rand -hex 32)")
        for name, key in keys.items():
            if len(key) < 16:
                raise ConfigError("STREAMLEARN_KEYS", f"key {name!r} has {len(key)} bytes", "Use at least 16 random bytes")
        self._keys = dict(keys)
        self._signer = next(iter(self._keys))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the one that signs first."""
        return tuple(self._keys)

    @property
    def signer(self) -> str:
        """The id of the key that signs."""
        return self._signer

    def takes_over(self, other: KeyRing) -> bool:
        """Whether this ring verifies what `other` signs."""
        return hmac.compare_digest(self._keys.get(other.signer, b""), other._keys[other.signer])

    def sign(self, data: bytes) -> tuple[str, str]:
        """Key id and hexadecimal HMAC-SHA256 of `data`."""
        return self._signer, hmac.new(self._keys[self._signer], data, hashlib.sha256).hexdigest()

    def verify(self, data: bytes, key_id: str, mac: str) -> None:
        """Raises BadSignature unless `mac` was made over `data` with the key named `key_id`."""
        key = self._keys.get(key_id)
        if key is None:
            raise BadSignature(f"signed with key {key_id!r}, which is not in the key ring {sorted(self._keys)}")
        if not hmac.compare_digest(hmac.new(key, data, hashlib.sha256).hexdigest().encode(), mac.encode()):
            raise BadSignature(f"the signature by key {key_id!r} does not match the content")


def load_keys(environ: Mapping[str, str], path: Path) -> KeyRing:
    """The ring from `STREAMLEARN_KEYS` or the file it is in, else from the file at `path`, made (mode 0600) if it is missing.

    Raises ConfigError for text that is not `id:hex,id:hex`.
    """
    text = secret_text(environ, "STREAMLEARN_KEYS")
    if text is None:
        text = _read_or_make(path)
    keys: dict[str, bytes] = {}
    for item in items(text):
        name, colon, digits = item.partition(":")
        if not colon or not name:  # it may be a key without its id: never show it
            raise ConfigError("STREAMLEARN_KEYS", "holds a key without an id", "Write id:hex,id:hex")
        try:
            keys[name] = bytes.fromhex(digits)
        except ValueError:
            raise ConfigError("STREAMLEARN_KEYS", f"key {name!r} is not hexadecimal", "Write id:hex,id:hex") from None
    return KeyRing(keys)


def secret_text(environ: Mapping[str, str], variable: str) -> str | None:
    """What `variable` holds, or the file that `variable_FILE` names, as containers get their secrets; None when neither is set.

    Raises ConfigError when both are, or when the file cannot be read.
    """
    from_file = f"{variable}_FILE"
    path = environ.get(from_file)
    if path is None:
        text = environ.get(variable)
        return text if text is None else _never_logged(text)
    if variable in environ:
        raise ConfigError(from_file, f"is set beside {variable}", "Set one of the two")
    return read_secret(from_file, path)


def read_secret(key: str, path: str) -> str:
    """What a file of secrets holds; `key` is the setting that names it. Raises ConfigError."""
    try:
        return _never_logged(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(key, f"{path} cannot be read ({why})", "Name a file that this user may read") from None


def items(text: str) -> Iterator[str]:
    """The entries of a list of secrets, with commas between or each on a line of its own."""
    return filter(None, (part.strip() for line in text.splitlines() for part in line.split(",")))


def _never_logged(text: str) -> str:
    """The text as it is: each of its entries, and what stands behind the name of each, is kept out of the log from now on."""
    for item in items(text):
        logs.hide(text.strip(), item, item.partition(":")[2])
    return text


def _read_or_make(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"local:{secrets.token_hex(32)}\n")
        try:
            os.link(draft, path)  # atomic, and never replaces the key that another process made first
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return _never_logged(path.read_text().strip())
