"""pystore's exceptions."""


class PyStoreError(Exception):
    """The base class of pystore's exceptions."""


class DataIntegrityError(PyStoreError):
    """Appended rows repeat an index value of the item, or of each other."""


class ItemNotFoundError(PyStoreError):
    """The item does not exist."""


class ItemExistsError(PyStoreError):
    """The item already exists."""


class CollectionNotFoundError(PyStoreError):
    """The collection does not exist."""


class CollectionExistsError(PyStoreError):
    """The collection already exists."""


class SnapshotNotFoundError(PyStoreError):
    """The snapshot does not exist."""


class StorageError(PyStoreError):
    """An item could not be stored."""


class SchemaError(PyStoreError):
    """Columns or their types do not match the item."""


class ConfigurationError(PyStoreError):
    """A setting is invalid."""


class ValidationError(PyStoreError):
    """Data violates a rule."""


class TransactionError(StorageError):
    """A transaction failed, or a lock could not be acquired."""
