package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// Errors that end a request or a connection, besides those that a client recognizes.
var (
	errCommand    = errors.New("unknown command")
	errFrames     = errors.New("wrong number of frames")
	errClose      = fmt.Errorf("closing the server is not allowed (%w)", fs.ErrPermission)
	errClosing    = errors.New("the server is closing")
	errSuperseded = errors.New("the session continues on a newer connection")

	// errDenied is the answer to every client without the necessary right. It does not depend on the
	// reason, so that it does not reveal whether a user, a token or a namespace exists. The log states
	// the reason.
	errDenied = fmt.Errorf("the credential is missing or wrong, or lacks the right to do this here (%w)", fs.ErrPermission)
)

func isPeerFault(err error) bool {
	if isCancelled(err) {
		return true
	}
	if !errors.As(err, new(*partd.Error)) && (errors.Is(err, partd.ErrUnknownOutcome) || errors.As(err, new(*net.OpError))) {
		// A bare ErrUnknownOutcome means that the result of a pop is no longer kept. A net.OpError means
		// that the connection broke.
		return true
	}
	if errors.As(err, new(*limitError)) {
		return errors.Is(err, syscall.EDQUOT) // a full quota is the client's fault; a full disk is not
	}
	for _, e := range []error{
		ErrBadRequest, ErrBusy, ErrLost, partd.ErrTooLarge, zmtp.ErrTooLarge, errors.ErrUnsupported, errCommand, errFrames, errClose, errDenied,
		partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, partd.ErrUnknownOutcome)
		}
	}
	return false
}
