// Package worker runs untrusted jobs, such as SQL statements and the decoding of files, in separate
// processes, which may crash without harm.
//
// A worker is this program, started again with a hidden first argument. The server and a worker exchange
// frames over a socket: values as JSON, errors, and batches as an Arrow stream. A worker runs one job and
// exits. It also exits when its socket closes, for example because the server died.
//
// A worker runs while the program's packages are still being initialized. Go initializes packages that do not
// import each other in the order of their paths, so the tables' libraries come later. Workers do not need
// these libraries, whose initialization takes four fifths of the startup time.
package worker

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
)

// marker is the first argument of a worker. The second argument is the kind.
const (
	marker            = "--partd-tables-worker"
	lowPriorityMarker = "last" // third argument of a worker with a lower priority
)

// Kind names a job of workers.
type Kind string

var (
	isEnabled atomic.Bool // set by Main

	hasLowPriority atomic.Bool
)

// Handle runs job and exits if this process is a worker of kind k. It must be called in the init function of
// a package that imports neither package tables nor Flight's packages, so that workers start quickly.
func Handle(k Kind, job func(*Conn) error) {
	if len(os.Args) < 3 || os.Args[1] != marker || os.Args[2] != string(k) {
		return
	}
	hasLowPriority.Store(len(os.Args) > 3)
	if err := serve(job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Main allows this process to start workers. A program must call it first in main, before it opens any file,
// because workers would inherit the file.
func Main() {
	if len(os.Args) > 1 && os.Args[1] == marker {
		fmt.Fprintln(os.Stderr, "unknown kind of worker")
		os.Exit(1)
	}
	isEnabled.Store(true)
	markCloseOnExec()
}

type callerKey struct{}

type caller struct {
	name         string
	hasOtherJobs func() bool
}

// WithCaller returns a context with a caller's name, and a function that reports whether the caller
// has other running jobs.
func WithCaller(ctx context.Context, name string, hasOtherJobs func() bool) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{name, hasOtherJobs})
}

// HasOtherJobs reports whether the context's caller has other running jobs. Callers without other running jobs
// have priority.
func HasOtherJobs(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	return ok && c.hasOtherJobs()
}

// Caller returns the name of the context's caller, or "".
func Caller(ctx context.Context) string {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.name
}

// HasLowPriority reports whether this process has a lowered priority that could not be restored.
func HasLowPriority() bool { return hasLowPriority.Load() }

// DeathError is the error of a worker that died before it finished its job.
type DeathError struct {
	Memory bool   // the worker ran out of memory
	State  string // how the process ended
}

func (e *DeathError) Error() string {
	if e.Memory {
		return "its process ran out of memory"
	}
	return fmt.Sprintf("its process ended: %s", e.State)
}
