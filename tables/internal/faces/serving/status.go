package serving

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

// The reasons for which servers cancel or refuse calls.
var (
	ErrSending   = kinds.IdleSender.Errorf("the client sent nothing for too long")
	ErrReceiving = kinds.IdleReceiver.Errorf("the client received nothing for too long")
	ErrCrowded   = kinds.Busy.Errorf("too many clients are authenticating; try again later")
	ErrMemory    = kinds.Busy.Errorf("the server's memory for messages is full; try again later, or send smaller batches")

	errTooLong   = kinds.CallLimit.Errorf("the call took longer than the server allows")
	errCancelled = kinds.Canceled.Errorf("the call was cancelled")
	errShare     = kinds.Preempted.Errorf("the call was canceled in favor of other users: its user or address was running more calls; run fewer at a time, or try again later")
)

// WithCause returns the cause if the server canceled ctx's call, and otherwise err. It always returns err if err is nil
// or means that a change may have been applied.
func WithCause(ctx context.Context, err error) error {
	if c, ok := context.Cause(ctx).(*kinds.Error); ok && err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		return c
	}
	return err
}

// hidesCause reports whether a client must receive err instead of the cause for which its call was canceled: a change
// may have been applied, or the server itself reported err.
func hidesCause(err, cause error) bool {
	// Canceling a call ends its reads with ErrSending: then the cause counts. If a read times out by itself, the HTTP
	// server cancels the call with context.Canceled: then err counts.
	if errors.Is(err, ErrSending) {
		return cause == context.Canceled //nolint:errorlint // the HTTP server does not wrap it
	}
	e := kinds.Detailed(nil)
	return errors.Is(err, partd.ErrUnknownOutcome) || errors.As(err, &e) && error(e) != cause
}

// Status returns err with the gRPC status code of its first kind and without jargon in its text.
func Status(err error) error {
	if err == nil {
		return nil
	}
	d := kinds.Of(err)
	s, isBare := err.(interface{ GRPCStatus() *status.Status }) //nolint:errorlint // only an unwrapped status is returned unchanged
	if isBare && s.GRPCStatus().Code() == d.GRPC {
		return err
	}
	return d.GoError(Shorten(err.Error()), err)
}

// Text returns err's text for HTTP clients. It may contain paths; see WithoutPaths.
func Text(err error) string {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Sprintf("the body is larger than %d bytes", e.Limit)
	}
	if _, ok := status.FromError(err); ok {
		return status.Convert(Status(err)).Message()
	}
	return strings.ToValidUTF8(strings.TrimPrefix(err.Error(), "tables: "), "\uFFFD")
}

// jargon matches phrases that libraries insert into errors.
var jargon = regexp.MustCompile(`rpc error: code = \w+ desc = |error encountered during (arrow )?schema visitor: `)

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
