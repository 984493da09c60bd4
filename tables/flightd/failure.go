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

// shootsError is an error in the form that clients of shoots (another table server) read. Its kind tells them which
// exception to raise.
type shootsError struct {
	kind *kinds.Kind
	err  error
}

func (e *shootsError) Error() string {
	return serving.Shorten(strings.TrimPrefix(e.err.Error(), "tables: "))
}

func (e *shootsError) Unwrap() error { return e.err }

// ErrorDetails returns the error's kind.
func (e *shootsError) ErrorDetails() *kinds.Details {
	return &kinds.Details{Kinds: []string{e.kind.Word}}
}

// GRPCStatus returns the status under which the server's metrics count the error. Clients receive the code Unknown.
func (e *shootsError) GRPCStatus() *status.Status { return status.New(kinds.Of(e).GRPC, e.Error()) }

// newShootsError returns a shootsError. If a disk is full or err already has a gRPC status, for example because the
// caller lacks rights, it instead returns err with its status.
func newShootsError(kind *kinds.Kind, err error) error {
	if status.Code(err) != codes.Unknown || kinds.IsDiskFull(err) {
		return serving.Status(err)
	}
	return &shootsError{kind, err}
}

// asShootsError returns err in the form that clients of shoots read.
func asShootsError(err error) error {
	if err == nil || errors.As(err, new(*shootsError)) {
		return err
	}
	return newShootsError(kinds.Of(err).Kind, err)
}

// publicError returns a call's error as its client receives it: without the server's file paths. It also sets trailers:
// the error's kinds and, for a shootsError, those that Arrow's clients convert to a FlightServerError whose extra_info
// is JSON.
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
	return newShootsError(kinds.SQL, err)
}
