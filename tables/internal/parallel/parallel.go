// Package parallel does something with many items, a few at a time.
package parallel

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/internal/canceled"
)

// DefaultWorkers is how many items are in work at a time.
const DefaultWorkers = 4

// Each calls f for each item, for so many at a time; 0 is DefaultWorkers. It takes
// an item once there is a worker for it, and ends with the first error.
func Each[T any](ctx context.Context, items iter.Seq[T], workers int, f func(context.Context, T) error) error {
	if workers < 1 {
		workers = DefaultWorkers
	}
	g, ctx := errgroup.WithContext(ctx)
	free := make(chan struct{}, workers)
	for range workers {
		free <- struct{}{}
	}
	g.Go(func() error {
		// An item is taken after a worker is free, since it may be large.
		<-free
		for item := range items {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			g.Go(func() error {
				defer func() { free <- struct{}{} }()
				return f(ctx, item)
			})
			if err := canceled.Wait(ctx, free); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}
