// Package parallel processes items concurrently, with a limited number of workers.
package parallel

import (
	"context"
	"iter"

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
