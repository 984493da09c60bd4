//go:build !unix

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Supported reports whether workers can be started here.
const Supported = false

// Process is a worker as the server has it. There is none here.
type Process struct{ *Conn }

// Start fails: sockets and files are handed on to workers as on Unix alone.
func Start(context.Context, Kind, *os.File) (*Process, error) {
	return nil, fmt.Errorf("%w: processes of their own", errors.ErrUnsupported)
}

// Lives reports that it has ended.
func (*Process) Lives() bool { return false }

// Kill does nothing.
func (*Process) Kill() {}

// KillWith does nothing.
func (*Process) KillWith(context.Context) (end func() bool) { return func() bool { return true } }

// Close does nothing.
func (*Process) Close() {}

// Died returns the error.
func (*Process) Died(err error) error { return err }

// File returns nothing.
func File() *os.File { return nil }

func serve(func(*Conn) error) error { return errors.ErrUnsupported }

func keepDescriptors() {}

// Modest does nothing.
func Modest() (stop func()) { return func() {} }
