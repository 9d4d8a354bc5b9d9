"""What can go wrong, in words. `api/problems.py` is the one table that says which HTTP status each becomes."""


class ServiceError(Exception):
    """The root of everything this service raises on purpose; `str(error)` may be shown to the client."""


class NotFoundError(ServiceError):
    """Unknown, ill-formed and foreign ids alike."""


class CollectionExistsError(ServiceError):
    """The tenant already has a collection of this name."""


class DocumentExistsError(ServiceError):
    """The collection already holds a document with this external_id."""


class NotFailedError(ServiceError):
    """Only a failed document can be retried."""


class InProgressError(ServiceError):
    """What is asked about is still being made: a document without an indexed version has no neighbours."""


class PreconditionFailedError(ServiceError):
    """The version named by If-Match, or the absence named by If-None-Match, is not what the document has."""


class PreconditionRequiredError(ServiceError):
    """This change needs an If-Match header."""


class InvalidError(ServiceError):
    """A value that is well-formed and not acceptable; `field` names it."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class MalformedError(ServiceError):
    """Bytes that cannot be read as what they claim to be: JSON, a cursor, a multipart body."""


class CursorMismatchError(ServiceError):
    """The cursor belongs to another request."""


class TooLargeError(ServiceError):
    """More bytes than the limit; the message names the limit."""


class UnsupportedMediaTypeError(ServiceError):
    """The route does not take a body of this Content-Type."""


class UnauthorizedError(ServiceError):
    """No key, an unknown key or a revoked one."""


class OverloadedError(ServiceError):
    """More work in flight than the service accepts; try again shortly."""


class UnavailableError(ServiceError):
    """A part that the request needs (database, object store, embedder) does not answer."""


class BlobNotFoundError(ServiceError):
    """A row names an object that the store does not have."""


class BlobCorruptError(ServiceError):
    """An object's bytes do not have the sha256 that its row keeps."""


class ExtractionError(ServiceError):
    """A file that cannot be read. `code` is what the document's `error.code` will say."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
