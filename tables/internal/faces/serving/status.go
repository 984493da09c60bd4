package serving

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// cause is the reason why the server canceled a call.
type cause struct {
	code codes.Code
	text string
}

func (c *cause) Error() string              { return c.text }
func (c *cause) GRPCStatus() *status.Status { return status.New(c.code, c.text) }

// The causes with which servers cancel calls.
var (
	ErrSending   error = &cause{codes.DeadlineExceeded, "the client sent nothing for too long"}
	ErrReceiving error = &cause{codes.DeadlineExceeded, "the client received nothing for too long"}
	ErrCrowded   error = &cause{codes.ResourceExhausted, "too many clients are authenticating; try again later"}
	ErrMemory    error = &cause{codes.ResourceExhausted, "the server's memory for messages is full; try again later, or send smaller batches"}

	errTooLong   = &cause{codes.DeadlineExceeded, "the call took longer than the server allows"}
	errCancelled = &cause{codes.Canceled, "the call was cancelled"}
	errShare     = &cause{codes.ResourceExhausted, "the call was canceled in favor of other users: its user or address was running more calls; run fewer at a time, or try again later"}
)

// mayBeStored reports whether err must not be replaced by a cause whose code promises that nothing has changed.
func mayBeStored(err, cause error) bool {
	return errors.Is(err, partd.ErrUnknownOutcome) && status.Code(cause) == codes.ResourceExhausted
}

// WithCause returns the cause if the server canceled ctx's call, and otherwise err. If err is nil, or mayBeStored,
// WithCause returns err.
func WithCause(ctx context.Context, err error) error {
	if c, ok := context.Cause(ctx).(*cause); ok && err != nil && !mayBeStored(err, c) {
		return c
	}
	return err
}

// statusError is an error with a gRPC status. It wraps the original error, so that servers can log that error and find
// the paths in it.
type statusError struct {
	cause
	err error
}

func (e *statusError) Unwrap() error { return e.err }

// IsDiskFull reports whether err means that a disk of the server is full.
func IsDiskFull(err error) bool {
	const sqliteFull = 13
	var sqlite interface{ Code() int }
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.As(err, &sqlite) && sqlite.Code()&0xff == sqliteFull
}

// Status returns err with the gRPC status code that Flight SQL's clients expect.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if mayBeStored(err, err) {
		return withCode(codes.Unknown, err)
	}
	if status.Code(err) != codes.Unknown {
		return WithoutJargon(err)
	}
	if IsDiskFull(err) && !errors.Is(err, partd.ErrUnknownOutcome) {
		return withCode(codes.ResourceExhausted, err)
	}
	for _, c := range []struct {
		target error
		code   codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{partd.ErrUnknownOutcome, codes.Unknown},
		{tables.ErrNotFound, codes.NotFound},
		{tables.ErrExists, codes.AlreadyExists},
		{tables.ErrConflict, codes.Aborted},
		{tables.ErrRequirement, codes.Aborted},
		{tables.ErrNotEmpty, codes.FailedPrecondition},
		{tables.ErrClosed, codes.Unavailable},
		{tables.ErrDamaged, codes.DataLoss},
		{tables.ErrReadOnly, codes.PermissionDenied},
		{errors.ErrUnsupported, codes.Unimplemented},
		{partd.ErrTooLarge, codes.ResourceExhausted},
	} {
		if errors.Is(err, c.target) {
			return withCode(c.code, err)
		}
	}
	if errors.As(err, new(*tables.SQLError)) && errors.As(err, new(*fs.PathError)) { // statements name no files, so it is the server's fault
		return withCode(codes.Internal, err)
	}
	if errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.DuplicateError)) || errors.As(err, new(*tables.RuleError)) ||
		errors.As(err, new(*tables.ArgumentError)) || errors.As(err, new(*tables.SQLError)) || errors.As(err, new(*filter.SyntaxError)) {
		return withCode(codes.InvalidArgument, err)
	}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return withCode(codes.InvalidArgument, err)
	case errors.Is(err, fs.ErrPermission) && !errors.As(err, new(*fs.PathError)): // a PathError means that the server itself lacks permission to open a file
		return withCode(codes.PermissionDenied, err)
	}
	return withCode(codes.Internal, err)
}

func withCode(code codes.Code, err error) error {
	return &statusError{cause{code, Shorten(err.Error())}, err}
}

// jargon matches phrases that libraries insert into errors.
var jargon = regexp.MustCompile(`rpc error: code = \w+ desc = |error encountered during (arrow )?schema visitor: `)

// WithoutJargon returns an error with err's status code, and with err's text without jargon.
func WithoutJargon(err error) error {
	if _, isBare := err.(interface{ GRPCStatus() *status.Status }); isBare { //nolint:errorlint // only an unwrapped status is returned unchanged
		return err
	}
	return withCode(status.Code(err), err)
}

// Shorten removes jargon from an error message and truncates it, because clients accept only 8 KiB of trailers, and a
// message may quote a long request.
func Shorten(text string) string {
	const maxBytes = 1 << 10
	text = jargon.ReplaceAllLiteralString(text, "")
	if len(text) <= maxBytes {
		return text
	}
	text = text[:maxBytes]
	if space := strings.LastIndexByte(text, ' '); space > maxBytes/2 { // a truncated path would evade WithoutPaths
		text = text[:space]
	}
	return strings.ToValidUTF8(text, "") + "…"
}
