package serving

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

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
	errShare     = &cause{codes.ResourceExhausted, "the call was canceled in favor of other users: its user or its address had more calls running; run fewer at a time, or try again later"}
)

// WithCause returns the cause if the server canceled the call of ctx, and otherwise err. If err is nil, it returns nil.
func WithCause(ctx context.Context, err error) error {
	if c, ok := context.Cause(ctx).(*cause); ok && err != nil {
		return c
	}
	return err
}

// Status returns err with the gRPC status code that Flight SQL's clients expect.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown {
		return WithoutJargon(err)
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
			return status.Error(c.code, Shorten(err.Error()))
		}
	}
	if errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.DuplicateError)) || errors.As(err, new(*tables.RuleError)) ||
		errors.As(err, new(*tables.ArgumentError)) || errors.As(err, new(*tables.SQLError)) || errors.As(err, new(*filter.SyntaxError)) {
		return status.Error(codes.InvalidArgument, Shorten(err.Error()))
	}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return status.Error(codes.InvalidArgument, Shorten(err.Error()))
	case errors.Is(err, fs.ErrPermission) && !errors.As(err, new(*fs.PathError)): // a PathError means that the server itself lacks permission to open a file
		return status.Error(codes.PermissionDenied, Shorten(err.Error()))
	}
	return status.Error(codes.Internal, Shorten(err.Error()))
}

// jargon matches phrases that libraries insert into errors.
var jargon = regexp.MustCompile(`rpc error: code = \w+ desc = |error encountered during (arrow )?schema visitor: `)

// WithoutJargon returns an error with err's status code, and with err's text without jargon.
func WithoutJargon(err error) error {
	if _, isBare := err.(interface{ GRPCStatus() *status.Status }); isBare { //nolint:errorlint // only an unwrapped status is returned unchanged
		return err
	}
	return status.Error(status.Code(err), Shorten(err.Error()))
}

// Shorten removes jargon from an error message and cuts it, because clients accept only 8 KiB of trailers, and a
// message may quote a long request.
func Shorten(text string) string {
	const maxBytes = 1 << 10
	text = jargon.ReplaceAllLiteralString(text, "")
	if len(text) <= maxBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxBytes], "") + "…"
}
