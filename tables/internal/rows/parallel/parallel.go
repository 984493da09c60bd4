// Package parallel processes items concurrently, with a limited number of workers.
package parallel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/internal/base/canceled"
)

// DefaultWorkers is the default number of workers.
const DefaultWorkers = 4

type sequential struct{}

// Sequential returns a context with which Each uses a single worker.
func Sequential(ctx context.Context) context.Context {
	return context.WithValue(ctx, sequential{}, true)
}

// Each calls f for each item, in at most workers goroutines. If workers is 0, it uses DefaultWorkers. It
// reads an item only when a worker is free and stops at the first error. If f or items panics, the error is a [*Panic].
func Each[T any](ctx context.Context, items iter.Seq[T], workers int, f func(context.Context, T) error) error {
	if workers < 1 {
		workers = DefaultWorkers
	}
	if ctx.Value(sequential{}) != nil {
		workers = 1
	}
	g, ctx := errgroup.WithContext(ctx)
	freeWorkers := make(chan struct{}, workers)
	for range workers {
		freeWorkers <- struct{}{}
	}
	g.Go(func() error {
		return Catch(func() error {
			// Wait for a free worker before reading an item, which may be large.
			<-freeWorkers
			for item := range items {
				if ctx.Err() != nil {
					return canceled.Err(ctx)
				}
				g.Go(func() error {
					defer func() { freeWorkers <- struct{}{} }()
					return Catch(func() error { return f(ctx, item) })
				})
				if err := canceled.Wait(ctx, freeWorkers); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return g.Wait()
}

// Panic is the error for a panic: a fault in the program or in a library, often caused by unexpected data of one table.
type Panic struct {
	Value any    // argument of the panic
	Stack []byte // stack of the goroutine that panicked
}

func (p *Panic) Error() string {
	return fmt.Sprintf("a fault in the program or in the data: %v", p.Value)
}

// Catch calls f and returns its error, or a [*Panic] if f panics. Goroutines and loops over tables call it, because an
// uncaught panic would end the process, and with it the work for all tables. So do callers of Iceberg's and Arrow's
// libraries, which panic on some invalid files. Locks that f takes must be released by defer.
func Catch(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Panic{p, debug.Stack()}
		}
	}()
	return f()
}

// Reason describes a panic while a file is read. The library's own panics say what is wrong, but those of Go's runtime,
// such as an index out of range, mean nothing to a user.
func Reason(p any) string {
	if _, ok := p.(runtime.Error); ok {
		return "its counts, lengths and offsets contradict each other"
	}
	return fmt.Sprint(p)
}

// LogError returns the attributes of a log line for an error: the error and, for a panic, its stack.
func LogError(err error) slog.Attr {
	if p, ok := errors.AsType[*Panic](err); ok {
		return slog.Group("", "err", err, "stack", string(p.Stack))
	}
	return slog.Any("err", err)
}
