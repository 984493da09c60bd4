package kinds

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"google.golang.org/grpc/codes"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Kind is a kind of error: a row of the table below.
type Kind struct {
	Word    string // stable name; docs/dev/tables-wire.md lists all words
	Retry   string // Yes, WithID or No
	GRPC    codes.Code
	HTTP    int    // HTTP status of the page's API
	Influx  string // InfluxDB's error code; the HTTP status is HTTP or, with InfluxRetries, 503
	REST    int    // HTTP status of the Iceberg catalog
	Iceberg string // type of the Iceberg catalog's error
	Shoots  string // error type for clients of shoots (another table server); "" means its general type, ShootsIOError
	general string // word of a more general kind that the error also has; "" if there is none
	goError        // zero if no Go error has this kind, so that only a face reports it
}

// The values of Kind.Retry.
const (
	Yes    = "yes" // nothing was changed, and the same call may succeed later
	WithID = "id"  // a change may have been applied, so only reads and changes with an ID are safe to repeat
	No     = "no"  // nothing was changed, and the same call fails again
)

// InfluxRetries is the Kind.Influx with which InfluxDB's clients repeat a write.
const InfluxRetries = "unavailable"

// Values that several rows of the table share.
const (
	invalid, failed, tooMany, noPath = "invalid", "internal error", "too many requests", "not found" // InfluxDB's error codes

	badRequest, validation, forbidden   = "BadRequestException", "ValidationException", "ForbiddenException" // types of the Iceberg catalog
	unavailable, slowDown, failure      = "ServiceUnavailableException", "SlowDownException", "ServiceFailureException"
	commitFailed, noTable, unknownState = "CommitFailedException", "NoSuchTableException", "CommitStateUnknownException"

	fileNotFound = "FileNotFoundError" // types for clients of shoots
	sqlFailed    = "DataFusionError"
)

// The table of kinds. If an error has several kinds, the first one determines its codes. An error of another package
// with a gRPC code but no kind gets the last kind with this code.
var (
	UnknownOutcome    = add(Kind{"unknown_outcome", WithID, codes.Unknown, 500, failed, 500, unknownState, "", "", sentinel(partd.ErrUnknownOutcome)})
	Preempted         = add(Kind{"preempted", WithID, codes.ResourceExhausted, 429, tooMany, 503, slowDown, "", "", goError{}})
	CallLimit         = add(Kind{"call_limit", WithID, codes.DeadlineExceeded, 503, InfluxRetries, 503, unavailable, "", "timed_out", goError{}})
	IdleSender        = add(Kind{"idle_sender", WithID, codes.DeadlineExceeded, 503, InfluxRetries, 503, unavailable, "", "timed_out", goError{}})
	IdleReceiver      = add(Kind{"idle_receiver", WithID, codes.DeadlineExceeded, 503, InfluxRetries, 503, unavailable, "", "timed_out", goError{}})
	DiskFull          = add(Kind{"disk_full", No, codes.ResourceExhausted, 507, failed, 503, unavailable, "", "", matching(IsDiskFull, syscall.ENOSPC)})
	Canceled          = add(Kind{"canceled", WithID, codes.Canceled, 499, failed, 503, unavailable, "", "", sentinel(context.Canceled)})
	TimedOut          = add(Kind{"timed_out", WithID, codes.DeadlineExceeded, 503, InfluxRetries, 503, unavailable, "", "", sentinel(context.DeadlineExceeded)})
	Schema            = add(Kind{"schema", No, codes.InvalidArgument, 400, invalid, 400, validation, "", "", schema})
	Duplicates        = add(Kind{"duplicates", No, codes.InvalidArgument, 400, invalid, 400, validation, "", "", duplicates})
	Rules             = add(Kind{"rules", No, codes.InvalidArgument, 400, invalid, 400, validation, "", "", violations})
	Invalid           = add(Kind{"invalid", No, codes.InvalidArgument, 400, invalid, 400, validation, "", "", argument})
	Requirement       = add(Kind{"requirement", No, codes.Aborted, 409, InfluxRetries, 409, commitFailed, "", "", sentinel(tables.ErrRequirement)})
	Conflict          = add(Kind{"conflict", Yes, codes.Aborted, 409, InfluxRetries, 409, commitFailed, "", "", sentinel(tables.ErrConflict)})
	Exists            = add(Kind{"exists", No, codes.AlreadyExists, 409, InfluxRetries, 409, "AlreadyExistsException", "FileExistsError", "", sentinel(tables.ErrExists)})
	NotEmpty          = add(Kind{"not_empty", No, codes.FailedPrecondition, 409, InfluxRetries, 409, "NamespaceNotEmptyException", "BucketNotEmptyError", "", sentinel(tables.ErrNotEmpty)})
	NoSuchPath        = add(Kind{"no_such_path", No, codes.NotFound, 404, noPath, 404, "NoSuchEndpointException", "", "", goError{}})
	NamespaceNotFound = add(Kind{"namespace_not_found", No, codes.NotFound, 404, noPath, 404, "NoSuchNamespaceException", fileNotFound, "not_found", goError{}})
	Moment            = add(Kind{"moment", No, codes.NotFound, 404, noPath, 404, noTable, fileNotFound, "not_found", moment})
	NotFound          = add(Kind{"not_found", No, codes.NotFound, 404, noPath, 404, noTable, fileNotFound, "", sentinel(tables.ErrNotFound)})
	Closed            = add(Kind{"closed", WithID, codes.Unavailable, 503, InfluxRetries, 503, unavailable, "", "", sentinel(tables.ErrClosed)})
	Stopping          = add(Kind{"stopping", Yes, codes.Unavailable, 503, InfluxRetries, 503, unavailable, "", "", goError{}})
	Unavailable       = add(Kind{"unavailable", WithID, codes.Unavailable, 503, InfluxRetries, 503, unavailable, "", "", goError{}})
	Damaged           = add(Kind{"damaged", No, codes.DataLoss, 500, failed, 500, failure, "", "", sentinel(tables.ErrDamaged)})
	ReadOnly          = add(Kind{"read_only", No, codes.PermissionDenied, 403, "forbidden", 403, forbidden, "", "", sentinel(tables.ErrReadOnly)})
	Permission        = add(Kind{"permission", No, codes.PermissionDenied, 403, "forbidden", 403, forbidden, "", "", matching(isPermission, fs.ErrPermission)})
	Unauthenticated   = add(Kind{"unauthenticated", No, codes.Unauthenticated, 401, "unauthorized", 401, "NotAuthorizedException", "", "", goError{}})
	Busy              = add(Kind{"busy", Yes, codes.ResourceExhausted, 429, tooMany, 503, slowDown, "", "", goError{isOverQuota, nil}})
	Precondition      = add(Kind{"precondition", No, codes.FailedPrecondition, 500, failed, 500, failure, "", "", goError{}})
	InUse             = add(Kind{"in_use", No, codes.Internal, 500, failed, 500, failure, "", "", sentinel(tables.ErrInUse)})
	Internal          = add(Kind{"internal", WithID, codes.Internal, 500, failed, 500, failure, "", "", goError{}})
	Unsupported       = add(Kind{"unsupported", No, codes.Unimplemented, 501, failed, 406, "UnsupportedOperationException", "", "", sentinel(errors.ErrUnsupported)})
	BodyTooLarge      = add(Kind{"body_too_large", No, codes.InvalidArgument, 413, "request too large", 413, badRequest, "", "too_large", bodyTooLarge})
	TooLarge          = add(Kind{"too_large", No, codes.ResourceExhausted, 400, invalid, 400, badRequest, "", "", sentinel(partd.ErrTooLarge)})
	Memory            = add(Kind{"memory", No, codes.InvalidArgument, 400, invalid, 400, badRequest, sqlFailed, "", sentinel(sqltext.ErrMemory)})
	SQL               = add(Kind{"sql", No, codes.InvalidArgument, 400, invalid, 400, badRequest, sqlFailed, "", statement})
	Filter            = add(Kind{"filter", No, codes.InvalidArgument, 400, invalid, 400, badRequest, "", "", condition})
	Line              = add(Kind{"line", No, codes.InvalidArgument, 400, invalid, 400, badRequest, "", "", goError{}})
	MethodNotAllowed  = add(Kind{"method_not_allowed", No, codes.InvalidArgument, 405, "method not allowed", 405, badRequest, "", "", goError{}})
	MediaType         = add(Kind{"media_type", No, codes.InvalidArgument, 415, "unsupported media type", 415, badRequest, "", "", goError{}})
	Unprocessable     = add(Kind{"unprocessable", No, codes.InvalidArgument, 422, invalid, 422, "UnprocessableEntityException", "", "", goError{}})
	BadRequest        = add(Kind{"bad_request", No, codes.InvalidArgument, 400, invalid, 400, badRequest, "", "", goError{}})
)

// All lists the kinds in the order of the table.
var All []*Kind

func add(k Kind) *Kind {
	All = append(All, &k)
	return &k
}
