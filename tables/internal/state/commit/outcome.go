package commit

import (
	"context"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// If the outcome of a fold's commit was unknown, the commit may have succeeded. So each fold records its epoch in the
// table's metadata. If an epoch is recorded, its rows are in files, and must only be removed from the tail.

// epochProperty returns the table property that records epoch as the tail's last epoch whose rows are in files.
func (s *shared) epochProperty(epoch int64) iceberg.Properties {
	return iceberg.Properties{s.Tail.Property(): strconv.FormatInt(epoch, 10)}
}

// isFolded reports whether t records the epoch. In this case, an earlier fold was committed, but its outcome was
// unknown, or it did not remove the rows from the tail.
func (s *shared) isFolded(t *table.Table, epoch int64) bool {
	return s.Tail.Folded(t.Properties()) >= epoch
}

// settle updates the state after a fold of the table before. after is the table that the fold committed. It is nil if
// an earlier fold had committed the rows, or if the fold had no rows. e.mu must be held.
func (e *current) settle(ctx context.Context, before, after *table.Table, hadRows bool) (err error) {
	switch {
	case after != nil:
		err = e.advance(ctx, before, after)
	case hadRows:
		_, err = e.load(ctx)
	}
	return err
}
