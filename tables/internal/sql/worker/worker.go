// Package worker runs untrusted jobs, such as SQL statements and the decoding of files, in separate
// processes, which may crash without harm.
//
// A worker is this program, started again with a hidden first argument. The server and a worker exchange
// values as JSON, errors, and batches as an Arrow stream over a socket. A worker runs one job and exits. It
// also exits when its socket closes, for example because the server died.
//
// A worker runs its job in an init function, before most of the program's packages are initialized. The worker
// does not need these packages, and initializing them takes four fifths of the startup time. Running the job early
// works because Go initializes packages that do not import each other in the order of their paths.
package worker

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
)

// Arguments of a worker.
const (
	marker            = "--partd-tables-worker" // first argument; the second is the kind
	lowPriorityMarker = "last"                  // third argument, if the worker has a lower priority
)

// Kind identifies what a worker does.
type Kind string

var (
	isEnabled      atomic.Bool // set by Main
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

// Main allows this process to start workers. They do not inherit the files that are open when Main is called, so call
// it first in main.
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

// WithCaller returns a context that names the caller for whom jobs run; see [Caller] and [HasOtherJobs].
func WithCaller(ctx context.Context, name string, hasOtherJobs func() bool) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{name, hasOtherJobs})
}

// HasOtherJobs reports whether the context's caller has other running jobs.
func HasOtherJobs(ctx context.Context) bool {
	c, ok := ctx.Value(callerKey{}).(caller)
	return ok && c.hasOtherJobs()
}

// Caller returns the name of the context's caller, or "".
func Caller(ctx context.Context) string {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.name
}

// HasLowPriority reports whether this process currently runs with a lower priority.
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
