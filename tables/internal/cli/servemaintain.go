package cli

import (
	"context"
	"errors"
	"time"

	"github.com/go-partd/partd/tables"
)

// startMaintenance maintains the tables in the background. stop ends a running pass and waits for it; it can be called
// several times.
func (c *serveConfig) startMaintenance(ctx context.Context, store *tables.Store) (stop func()) {
	if store.ReadOnly() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	o := &tables.MaintainOptions{OlderThan: c.keepAge, Keep: c.keepVersions, Requested: !c.maintain}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(c.maintainEvery):
			}
			_, err := store.Maintain(ctx, o)
			// The store logs the failures of single tables.
			if err != nil && ctx.Err() == nil && !errors.Is(err, tables.ErrInUse) && store.MaintenanceSummary().Failing == 0 {
				c.options.Logger.Warn("cannot maintain the tables", "err", err)
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}
