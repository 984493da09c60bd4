package remote

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/storekit"
)

var (
	// ErrBusy means that the server lacks free memory or another resource, such as a reader or a
	// session, for a request. No part of the request was applied.
	ErrBusy = errors.New("the server is too busy for the request now: try again later")
	// ErrLost means that a reader or a listing cannot continue, because the connection broke or
	// the client paused too long. The caller can start again from the beginning.
	ErrLost = errors.New("the reader or listing is no longer open on the server: begin again")
	// ErrBadRequest means that the server does not understand a request.
	ErrBadRequest = errors.New("the server does not understand the request")
)

// errorsByCode maps the codes in an error reply to errors. If an error wraps several of these errors,
// its reply has several codes.
var errorsByCode = [...]error{
	1:           errors.ErrUnsupported,
	2:           partd.ErrTooLarge,
	3:           partd.ErrUnknownOutcome,
	4:           partd.ErrNeedsReopen,
	5:           partd.ErrClosed,
	6:           syscall.ENOSPC,
	codeCorrupt: nil, // a partd.CorruptError, encoded separately
	8:           partd.ErrSessionExpired,
	9:           partd.ErrSessionGap,
	10:          partd.ErrSessionReused,
	11:          fs.ErrPermission,
	12:          syscall.EROFS,
	13:          syscall.EIO,
	14:          fs.ErrNotExist,
	15:          syscall.EDQUOT,
	16:          syscall.EMFILE,
	17:          ErrBadRequest,
	18:          ErrBusy,
	19:          ErrLost,
}

const codeCorrupt = 7

// appendError appends an encoded error: its codes; the operation, key and path of a [partd.Error]; its
// text; and the path and offset of a [partd.CorruptError].
func appendError(b []byte, err error) []byte {
	le := binary.LittleEndian
	codes := codesOf(err)
	b = append(b, byte(len(codes)))
	for _, code := range codes {
		b = le.AppendUint16(b, uint16(code))
	}
	corrupt, ok := errors.AsType[*partd.CorruptError](err)
	if !ok {
		corrupt = &partd.CorruptError{Offset: -1}
	}
	// Encode only the cause of a partd.Error as text: its other fields are encoded separately.
	text := err
	inner, ok := errors.AsType[*partd.Error](err)
	if ok && err.Error() == inner.Error() {
		text = inner.Err
	} else {
		inner = &partd.Error{}
	}
	b = appendText(b, truncate(inner.Op))
	b = appendBool(b, inner.HasKey)
	b = appendText(b, inner.Key)
	b = appendText(b, truncate(publicPath(inner.Path)))
	b = appendText(b, truncate(publicText(text.Error(), err)))
	b = appendText(b, truncate(publicPath(corrupt.Path)))
	return le.AppendUint64(b, uint64(corrupt.Offset))
}

// codesOf returns the codes of all errors that err wraps.
func codesOf(err error) (codes []int) {
	hasErrno := errors.As(err, new(syscall.Errno))
	for code, meaning := range errorsByCode {
		// An errno such as EACCES says nothing about the client's rights or the store's abilities. A
		// client may ignore ErrUnsupported and ErrPermission from a flush, so do not send them for it.
		if hasErrno && (meaning == errors.ErrUnsupported || meaning == fs.ErrPermission) {
			continue
		}
		if meaning != nil && errors.Is(err, meaning) || code == codeCorrupt && errors.As(err, new(*partd.CorruptError)) {
			codes = append(codes, code)
		}
	}
	return codes
}

// serverError is an error returned by the server. errors.Is and errors.As treat it like the store's
// original error.
type serverError struct {
	text   string
	causes []error
}

func (e *serverError) Error() string { return e.text }

func (e *serverError) Unwrap() []error { return e.causes }

// parseError decodes the error in a reply's body. op is the client's operation. address is the
// server's URL.
func parseError(body []byte, op, address string) error {
	d := &decoder{b: body}
	var codes []uint16
	for range d.u8() {
		codes = append(codes, d.u16())
	}
	inner := partd.Error{Op: d.text(), HasKey: d.bool(), Key: d.text(), Path: d.text()}
	text := d.text()
	corrupt := partd.CorruptError{Path: d.text(), Offset: int64(d.u64())}
	if err := d.end(); err != nil {
		return &partd.Error{Op: op, Path: address, Err: fmt.Errorf("cannot decode the error in the server's answer: %w", err)}
	}
	e := &serverError{text: text}
	for _, c := range codes {
		if c == codeCorrupt {
			corrupt.Err = errors.New(text)
			e.causes = append(e.causes, &corrupt)
		}
		if int(c) < len(errorsByCode) && errorsByCode[c] != nil {
			e.causes = append(e.causes, errorsByCode[c])
		}
	}
	inner.Op = cmp.Or(inner.Op, op)
	if inner.Path != "" {
		e.text = inner.Path + ": " + e.text
	}
	inner.Path, inner.Err = address, e
	return &inner
}

func isCancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// publicText removes the directories of the files in err from text, which is err's message or a
// part of that message. Clients must not see these directories; the log has the full paths.
func publicText(text string, err error) string {
	for _, path := range storekit.ErrorPaths(err) {
		for _, dir := range []string{path, filepath.Dir(path)} {
			if dir != "" && dir != "." && dir != "/" {
				text = strings.ReplaceAll(text, dir+"/", "")
			}
		}
		text = strings.ReplaceAll(text, path, publicPath(path))
	}
	return text
}

func publicPath(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// Errors that end a request or a connection, besides those in errorsByCode.
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
