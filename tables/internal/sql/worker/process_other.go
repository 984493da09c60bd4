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

// Process is not used on systems other than Unix.
type Process struct{ *Conn }

// Start always fails, because only Unix can pass sockets and files to workers.
func Start(context.Context, Kind, *os.File) (*Process, error) {
	return nil, fmt.Errorf("%w: worker processes", errors.ErrUnsupported)
}

func (*Process) IsAlive() bool { return false }

func (*Process) Kill() {}

func (*Process) KillWith(context.Context) (end func() bool) { return func() bool { return true } }

func (*Process) Close() {}

func (*Process) ExplainError(err error) error { return err }

func File() *os.File { return nil }

func serve(func(*Conn) error) error { return errors.ErrUnsupported }

func markCloseOnExec() {}

func LowerPriorityLater() (stop func()) { return func() {} }
