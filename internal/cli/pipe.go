package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// catchBrokenPipe makes a write to a pipe that nobody reads any more fail,
// instead of ending the process at once: temporary data have to go first.
func (a *app) catchBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a.catchesPipe.Store(true)
}

// brokenPipe ends the process as a broken pipe ends any, if one was the reason
// of an error.
func (a *app) brokenPipe(err error) bool {
	if !a.catchesPipe.Load() || !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// The runtime ends the process when a write to a broken standard output fails,
	// if nobody asked for the signal.
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{'\n'})
	return true
}
