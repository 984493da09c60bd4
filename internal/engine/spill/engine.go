// Package spill implements the common parts of the engines that sort, group and join records:
// their life cycle, and temporary files for data that does not fit in memory.
package spill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/tempdir"
)

// Default and minimum memory for an engine, in bytes. Some engines need MinMemory per thread.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 256 << 10
)

// ErrClosed is wrapped by the error for using a closed engine, reader or writer. It wraps
// [partd.ErrClosed].
var ErrClosed error = closedError{}

// ErrOpenWriters is the target with which errors.Is recognizes an OpenWritersError.
var ErrOpenWriters = errors.New("feeds are open")

// OpenWritersError is the error for reading while writers are open. Its value is the number of open
// writers.
type OpenWritersError int

func (e OpenWritersError) Error() string {
	return fmt.Sprintf("shuffle: feeds are still open (%d): close them before reading", int(e))
}

// Is reports whether target is ErrOpenWriters.
func (OpenWritersError) Is(target error) bool { return target == ErrOpenWriters }

// ErrNotOpened is the error for using a zero value instead of the result of a constructor. It
// wraps ErrClosed.
var ErrNotOpened = fmt.Errorf("shuffle: it is a zero value: call its constructor: %w", ErrClosed)

// closedError wraps partd.ErrClosed, but its message does not mention a store.
type closedError struct{}

func (closedError) Error() string { return "it is closed" }
func (closedError) Unwrap() error { return partd.ErrClosed }

// Engine is the common base of engines. An engine first receives records from several writers;
// after these are closed, its results can be read once.
type Engine struct {
	Memory  int64
	Threads int
	Temp    *tempdir.Set
	Ctx     context.Context
	Tasks   sync.WaitGroup // goroutines that Close waits for

	// Mu guards the fields below, and fields of the struct that embeds Engine. Cond is
	// signaled when they change.
	Mu      sync.Mutex
	Cond    sync.Cond
	Writers int  // number of open writers
	Reading bool // reading has begun
	err     error
	closed  bool
	ownTemp bool                    // Close must close Temp
	stop    context.CancelCauseFunc // ends Ctx
}

// Start checks the exported fields and sets zero fields to their defaults. Memory is
// divided into the given number of parts; 0 means one per thread. Each part needs at least
// [MinMemory]. Errors name the activity, such as "sorting". The engine stops when ctx is done.
func (e *Engine) Start(ctx context.Context, activity string, parts int) error {
	e.Memory = cmp.Or(e.Memory, DefaultMemory)
	e.Threads = cmp.Or(e.Threads, runtime.GOMAXPROCS(0))
	if e.Threads < 0 {
		return fmt.Errorf("%s with %d threads: use at least 1, or 0 for one per processor", activity, e.Threads)
	}
	parts = cmp.Or(parts, e.Threads)
	if minMemory := MinMemory * int64(parts); e.Memory < minMemory {
		return fmt.Errorf("%s with %d threads in %d bytes of memory: at least %d bytes are needed", activity, e.Threads, e.Memory, minMemory)
	}
	if e.Temp == nil {
		var err error
		e.Temp, err = tempdir.New(nil, nil)
		if err != nil {
			return err
		}
		e.ownTemp = true
	}
	e.Cond.L = &e.Mu
	e.Ctx, e.stop = context.WithCancelCause(ctx)
	context.AfterFunc(e.Ctx, func() { _ = e.Fail(canceled.Err(e.Ctx)) }) // Fail only returns the first error
	return nil
}

// Fail stops the engine with err, unless the engine has failed before. It returns the engine's
// first error.
func (e *Engine) Fail(err error) error {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.FailLocked(err)
	return e.err
}

// FailLocked is like Fail. Mu must be held.
func (e *Engine) FailLocked(err error) {
	if e.err == nil && e.Ctx != nil {
		e.err = err
		e.stop(canceled.Failure(err))
	}
	e.Cond.Broadcast()
}

// ErrLocked is like Err. Mu must be held.
func (e *Engine) ErrLocked() error {
	if e.Ctx == nil {
		return ErrNotOpened
	}
	// If Ctx has just ended, the function that Start passed to AfterFunc may not have run yet.
	if e.err == nil && e.Ctx.Err() != nil {
		e.FailLocked(canceled.Err(e.Ctx))
	}
	return e.err
}

// Err returns the error that stopped the engine, or nil.
func (e *Engine) Err() error {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	return e.ErrLocked()
}

// OpenWriter counts a new writer. It returns an error if the engine has failed or reading has
// begun. Mu must be held.
func (e *Engine) OpenWriter() error {
	if err := e.ErrLocked(); err != nil {
		return err
	}
	if e.Reading {
		return fmt.Errorf("shuffle: writing after reading began: %w", ErrClosed)
	}
	e.Writers++
	return nil
}

// StartReading begins reading. After that, no writer can be opened. StartReading returns an error if a
// writer is still open. Mu must be held.
func (e *Engine) StartReading() error {
	err := e.ErrLocked()
	switch {
	case err != nil:
		return err
	case e.Reading:
		return errors.New("shuffle: the results can be read only once")
	case e.Writers > 0:
		return OpenWritersError(e.Writers)
	}
	e.Reading = true
	return nil
}

// Close stops all goroutines of the engine and waits for them. Then it calls release to free
// the engine's resources and removes all temporary data. Later calls do nothing.
func (e *Engine) Close(release func() error) error {
	e.Mu.Lock()
	if e.closed {
		e.Mu.Unlock()
		return nil
	}
	e.closed = true
	e.FailLocked(fmt.Errorf("shuffle: %w", ErrClosed))
	e.Mu.Unlock()
	e.Tasks.Wait()
	err := release()
	if e.ownTemp {
		err = errors.Join(err, e.Temp.Close())
	}
	return err
}

// Quota limits the total size of temporary files. The zero value has no limit; a nil Quota
// does nothing.
type Quota struct{ limit, used atomic.Int64 }

// Process is the quota for all temporary files of this process.
var Process Quota

// SetLimit sets the limit in bytes. 0 means no limit.
func (q *Quota) SetLimit(n int64) { q.limit.Store(n) }

// ErrQuota means that temporary files would exceed a Quota. It wraps [partd.ErrTooLarge].
var ErrQuota = fmt.Errorf("try again later: %w", partd.ErrTooLarge)

// Take adds n bytes to the used size. If that would exceed the limit, Take adds nothing and
// returns an error that wraps ErrQuota.
func (q *Quota) Take(n int64) error {
	if q == nil {
		return nil
	}
	if used, limit := q.used.Add(n), q.limit.Load(); limit > 0 && used > limit {
		q.used.Add(-n)
		return fmt.Errorf("temporary files would have %d bytes, but the limit is %d: %w", used, limit, ErrQuota)
	}
	return nil
}

// Release subtracts n bytes from the used size.
func (q *Quota) Release(n int64) {
	if q != nil {
		q.used.Add(-n)
	}
}

// Writer writes a temporary file. Its bytes count against a quota until Release.
type Writer struct {
	io.WriteCloser
	Quota *Quota
	size  int64
}

func (w *Writer) Write(p []byte) (int, error) {
	n := int64(len(p))
	if err := w.Quota.Take(n); err != nil {
		return 0, err
	}
	w.size += n
	return w.WriteCloser.Write(p)
}

// Release releases the file's bytes. The caller must have removed the file.
func (w *Writer) Release() {
	w.Quota.Release(w.size)
	w.size = 0
}
