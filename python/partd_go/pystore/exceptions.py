"""pystore's exceptions."""


class PyStoreError(Exception):
    """Above all of pystore's."""


class DataIntegrityError(PyStoreError):
    """There are rows with an index that is there."""


class ItemNotFoundError(PyStoreError):
    """There is no such item."""


class ItemExistsError(PyStoreError):
    """The item exists already."""


class CollectionNotFoundError(PyStoreError):
    """There is no such collection."""


class CollectionExistsError(PyStoreError):
    """The collection exists already."""


class SnapshotNotFoundError(PyStoreError):
    """There is no such snapshot."""


class StorageError(PyStoreError):
    """Something could not be stored."""


class SchemaError(PyStoreError):
    """Columns do not go together."""


class ConfigurationError(PyStoreError):
    """A setting cannot be."""


class ValidationError(PyStoreError):
    """Data is not as it has to be."""


class TransactionError(StorageError):
    """A transaction, or a lock, was not to be had."""
