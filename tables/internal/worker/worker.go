// Package worker runs jobs that strangers wrote in processes of their own, which
// may end without harm: SQL, and files to decode.
//
// A worker is this program, started again with a hidden first argument. The two
// talk over a socket in frames: values as JSON, errors, and batches as a stream of
// Arrow. A worker has one job, and ends with it; it also ends once its socket is
// closed, as it is when the server dies.
//
// It works while the program's packages are still being initialized: Go does so in the
// order of their paths where none imports the other, and the tables' libraries, which
// take four fifths of the whole time and no worker needs, come later.
package worker

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
)

// marker is the first argument of a worker, its kind the second one.
const (
	marker     = "--partd-tables-worker"
	lastMarker = "last" // a third one where it was started behind others
)

// Kind is a job that workers do.
type Kind string

var (
	hooked atomic.Bool // Main was called

	isBehind atomic.Bool
)

// Handle works and ends the process if it is a worker of a kind. It is called from the
// init of a package that neither imports the tables nor Flight, see TestBeginsSoon of package duck.
func Handle(k Kind, work func(*Conn) error) {
	if len(os.Args) < 3 || os.Args[1] != marker || os.Args[2] != string(k) {
		return
	}
	isBehind.Store(len(os.Args) > 3)
	if err := serve(work); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Main allows workers to be started. A program calls it first in main, before it opens
// anything, which a worker would have, too.
func Main() {
	if len(os.Args) > 1 && os.Args[1] == marker {
		fmt.Fprintln(os.Stderr, "this kind of job is unknown")
		os.Exit(1)
	}
	hooked.Store(true)
	keepDescriptors()
}

type callerKey struct{}

type caller struct {
	name      string
	hasOthers func() bool
}

// WithCaller is the context of a caller, with what tells whether others of the same
// caller are under way.
func WithCaller(ctx context.Context, name string, hasOthers func() bool) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{name, hasOthers})
}

// HasOthers reports whether a context's caller has others under way: those of who has
// none come first.
func HasOthers(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	return ok && c.hasOthers()
}

// Caller is the name of a context's caller, "" without one.
func Caller(ctx context.Context) string {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.name
}

// Behind reports whether this process is behind others, where it stays.
func Behind() bool { return isBehind.Load() }

// DeathError is the end of a worker that had not done its job.
type DeathError struct {
	Memory bool   // it had no more
	State  string // how it ended
}

func (e *DeathError) Error() string {
	if e.Memory {
		return "its process had no more memory"
	}
	return fmt.Sprintf("its process ended: %s", e.State)
}
