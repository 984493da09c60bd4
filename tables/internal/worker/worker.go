// Package worker runs jobs that strangers wrote in processes of their own, which
// may end without harm: SQL, and files to decode.
//
// A worker is this program, started again with a hidden first argument. The two
// talk over a socket in frames: values as JSON, errors, and batches as a stream of
// Arrow. A worker has one job, and ends with it; it also ends once its socket is
// closed, as it is when the server dies.
package worker

import (
	"fmt"
	"os"
	"sync/atomic"
)

// marker is the first argument of a worker, its kind the second one.
const marker = "--partd-tables-worker"

// Kind is a job that workers do.
type Kind string

var (
	kinds  = map[Kind]func(*Conn) error{}
	hooked atomic.Bool // Main was called

	isBehind atomic.Bool // Modest made it so
)

// Handle makes a kind known, with what a worker does. It is called from init.
func Handle(k Kind, work func(*Conn) error) { kinds[k] = work }

// Main works and ends the process if it is a worker. A program calls it first in
// main, before it opens anything.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != marker {
		hooked.Store(true)
		keepDescriptors()
		return
	}
	if err := serve(kinds[Kind(os.Args[2])]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Behind reports whether Modest has put this process behind others.
func Behind() bool { return isBehind.Load() }
