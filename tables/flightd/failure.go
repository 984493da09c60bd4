package flightd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// shootsReason is an error whose kind tells clients of shoots (another table server) which exception to raise.
type shootsReason struct {
	kind *kinds.Kind
	err  error
}

func (r *shootsReason) Error() string { return r.err.Error() }
func (r *shootsReason) Unwrap() error { return r.err }

// ErrorDetails returns the reason's kind.
func (r *shootsReason) ErrorDetails() *kinds.Details {
	return &kinds.Details{Kinds: []string{r.kind.Word}}
}

// shootsError is an error in the form that clients of shoots read.
type shootsError struct {
	kind *kinds.Kind
	code codes.Code // for the metrics, because the clients get Unknown for each error
	err  error
}

func (e *shootsError) Error() string {
	return serving.Shorten(strings.TrimPrefix(e.err.Error(), "tables: "))
}

func (e *shootsError) Unwrap() error { return e.err }

// GRPCStatus returns the status under which the server's metrics count the error.
func (e *shootsError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }

// asShootsError returns err in the form that clients of shoots read. If err already has a status, for example because
// of missing rights, or if a disk is full, asShootsError returns an error with a status instead.
func asShootsError(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown || kinds.IsDiskFull(err) {
		return serving.Status(err)
	}
	kind := kinds.Of(err).Kind
	e := &shootsError{kind, kind.GRPC, err}
	if r := (*shootsReason)(nil); errors.As(err, &r) {
		e.kind = r.kind
	}
	return e
}

// publicError returns a call's error as its client receives it: without the server's paths. For a shootsError, it sets
// trailers that Arrow's clients convert to a FlightServerError with JSON as its extra_info.
func publicError(core *serving.Core, st grpc.ServerStream, err error) error {
	if err == nil {
		return nil
	}
	p := status.Convert(err).Proto()
	p.Message = core.WithoutPaths(p.GetMessage(), err)
	st.SetTrailer(metadata.Pairs(kinds.Header, kinds.Of(err).Header()))
	if e, ok := err.(*shootsError); ok { //nolint:errorlint // a shootsError is never wrapped
		p.Code = int32(codes.Unknown)
		if detail, err := json.Marshal(map[string]string{"type": cmp.Or(e.kind.Shoots, "ShootsIOError"), "message": p.Message}); err == nil {
			const ioError = "5" // Arrow's status code
			st.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(detail),
				"x-arrow-status", ioError, "x-arrow-status-message-bin", p.Message, "x-arrow-status-detail-bin", "Failed"))
		}
	}
	return status.FromProto(p).Err()
}

// statementError marks err as a fault of the statement, unless the call was canceled or the server failed to access
// a file.
func statementError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return &shootsReason{kinds.SQL, err}
}
