// Package spill is what the engines of sorting and aggregating share to take more
// than fits in memory: temporary files of blocks with a checksum each, and how an
// engine starts, fails and ends.
package spill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the memory of an engine, in bytes.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 256 << 10
)

// ErrClosed is wrapped by the error of what is asked of something closed, and
// wraps [partd.ErrClosed].
var ErrClosed error = closedError{}

// ErrNotOpened is the error of what is asked of a zero value. It wraps ErrClosed.
var ErrNotOpened = fmt.Errorf("it is a zero value, which no constructor has made: %w", ErrClosed)

// closedError wraps an error about stores in words of its own.
type closedError struct{}

func (closedError) Error() string { return "it is closed" }
func (closedError) Unwrap() error { return partd.ErrClosed }

// Engine is something that takes records of several writers in, and then gives
// out what it made of them, once.
type Engine struct {
	Memory  int64
	Threads int
	Temp    *tempdir.Set
	Ctx     context.Context
	Tasks   sync.WaitGroup // that Close waits for

	// Mu guards what follows, and what else changes while the engine is used. Cond
	// is for all changes of it.
	Mu      sync.Mutex
	Cond    sync.Cond
	Writers int  // open ones
	Reading bool // has begun
	err     error
	closed  bool
	own     bool // Temp is to be closed
	stop    context.CancelCauseFunc
}

// Start sets the defaults of what is 0 and checks the rest, with what the engine
// is doing in its errors, as in "sorting". The memory is at least [MinMemory] for
// each of some parts, 0 meaning as many as there are threads. ctx ends all that the
// engine does.
func (e *Engine) Start(ctx context.Context, doing string, parts int) error {
	e.Memory = cmp.Or(e.Memory, DefaultMemory)
	e.Threads = cmp.Or(e.Threads, runtime.GOMAXPROCS(0))
	if e.Threads < 0 {
		return fmt.Errorf("%s with %d threads: at least one is needed", doing, e.Threads)
	}
	parts = cmp.Or(parts, e.Threads)
	if minMemory := MinMemory * int64(parts); e.Memory < minMemory {
		return fmt.Errorf("%s in %d bytes of memory with %d threads: they need at least %d", doing, e.Memory, e.Threads, minMemory)
	}
	if e.Temp == nil {
		var err error
		if e.Temp, err = tempdir.New(nil, nil); err != nil {
			return err
		}
		e.own = true
	}
	e.Cond.L = &e.Mu
	e.Ctx, e.stop = context.WithCancelCause(ctx)
	context.AfterFunc(e.Ctx, func() { _ = e.Fail(canceled.Err(e.Ctx)) })
	return nil
}

// Fail ends everything because of err, unless something failed before, and
// returns why.
func (e *Engine) Fail(err error) error {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.FailLocked(err)
	return e.err
}

// FailLocked does so for who holds Mu.
func (e *Engine) FailLocked(err error) {
	if e.err == nil && e.Ctx != nil {
		e.err = err
		e.stop(canceled.Because(err))
	}
	e.Cond.Broadcast()
}

// Failure returns what ended everything, if something did. Mu is held.
func (e *Engine) Failure() error {
	if e.Ctx == nil {
		return ErrNotOpened
	}
	// What notes the end of the context may not have come to it yet.
	if e.err == nil && e.Ctx.Err() != nil {
		e.FailLocked(canceled.Err(e.Ctx))
	}
	return e.err
}

// Why returns what ended everything, if something did.
func (e *Engine) Why() error {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	return e.Failure()
}

// OpenWriter notes a writer that is opened. Mu is held.
func (e *Engine) OpenWriter() error {
	if err := e.Failure(); err != nil {
		return err
	}
	if e.Reading {
		return fmt.Errorf("writing after reading began: %w", ErrClosed)
	}
	e.Writers++
	return nil
}

// StartReading notes that reading begins. Mu is held.
func (e *Engine) StartReading() error {
	switch err := e.Failure(); {
	case err != nil:
		return err
	case e.Reading:
		return errors.New("what went in can be read once only")
	case e.Writers > 0:
		return fmt.Errorf("%d writers are not closed yet", e.Writers)
	}
	e.Reading = true
	return nil
}

// Close ends everything that is under way, waits for it, calls release to give
// back what the engine holds, and removes all temporary data. It does so once.
func (e *Engine) Close(release func() error) error {
	e.Mu.Lock()
	if e.closed {
		e.Mu.Unlock()
		return nil
	}
	e.closed = true
	e.FailLocked(ErrClosed)
	e.Mu.Unlock()
	e.Tasks.Wait()
	err := release()
	if e.own {
		err = errors.Join(err, e.Temp.Close())
	}
	return err
}
