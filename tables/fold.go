package tables

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/tail"
)

// fold moves a table's rows from the tail into its files, and returns how many.
func (e *entry) fold(ctx context.Context) (int64, error) {
	e.commit.Lock()
	defer e.commit.Unlock()
	return e.foldLocked(ctx)
}

// foldLocked is fold for who has commit. Where somebody else changes the table's
// schema meanwhile, the rows are written again.
func (e *entry) foldLocked(ctx context.Context) (rows int64, err error) {
	if e.s.tail == nil || e.s.opts.ReadOnly {
		return 0, nil
	}
	err = retryStale(mostAttempts, func() error {
		rows, err = e.foldOnce(ctx)
		return err
	})
	return rows, err
}

func (e *entry) foldOnce(ctx context.Context) (int64, error) {
	p, err := e.s.pin()
	if err != nil {
		return 0, err
	}
	defer e.s.unpin(p)
	t, f, rows, err := e.foldable(ctx)
	if err != nil || f == nil {
		return 0, err
	}
	defer release(rows)
	if len(rows) == 0 { // others applied all the puts
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.log == nil {
			return 0, nil
		}
		return 0, e.log.Forget(ctx, f.epoch)
	}
	one, err := conformAll(rows, f.kept)
	if err != nil {
		return 0, err
	}
	folded := one.NumRows()
	if err := e.commitFold(ctx, t, f, one); err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(ctx); err != nil {
		return 0, err
	}
	if e.log == nil {
		return folded, nil
	}
	return folded, e.log.Forget(ctx, f.epoch)
}

// commitFold writes the files of a fold, and commits it. It takes over the rows.
func (e *entry) commitFold(ctx context.Context, t *table.Table, f *foldStep, rows arrow.RecordBatch) (err error) {
	defer func() { removeWritten(err, f.io) }()
	writer := e.s.cat.Staged(e.Namespace, e.Name, t.Metadata(), t.MetadataLocation(), f.io)
	if f.files, err = e.s.writeTail(ctx, writer, f.io, rows); err != nil {
		return err
	}
	c := &change{e: e}
	c.add(f)
	return e.s.commitWithRetry(ctx, nil, c)
}

// foldable ends the tail's epoch, and returns the table and the rows to fold, or
// a nil step if there are none.
func (e *entry) foldable(ctx context.Context) (*table.Table, *foldStep, []arrow.RecordBatch, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && e.log == nil {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	last, ok, err := e.log.Turn(ctx)
	if err != nil || !ok {
		return nil, nil, nil, err
	}
	if last <= e.state.folded { // by a fold whose outcome was unknown, or that could not tidy up
		return nil, nil, nil, e.log.Forget(ctx, last)
	}
	rows, err := e.rows(ctx, t.Metadata(), last)
	if err != nil {
		return nil, nil, nil, err
	}
	on, err := basisOf(t, anything, e.s.cat.NewIO())
	if err != nil {
		release(rows)
		return nil, nil, nil, err
	}
	_, _, _, updated := e.log.Size(e.state.folded)
	return t, &foldStep{
		basis: on, kept: e.state.def.Stored,
		epoch: last, ids: e.log.IDs(e.state.folded, last), update: updated,
	}, rows, nil
}

// conformAll returns one batch in a schema of batches in several.
func conformAll(rows []arrow.RecordBatch, kept *arrow.Schema) (arrow.RecordBatch, error) {
	fit := make([]arrow.RecordBatch, 0, len(rows))
	defer func() { release(fit) }()
	for _, batch := range rows {
		b, err := schema.CastStored(batch, kept)
		if err != nil {
			return nil, fmt.Errorf("rows in the tail do not fit the table any more: %w", err)
		}
		fit = append(fit, b)
	}
	return tail.Concat(fit)
}

func release(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}

// lastEpoch is later than all.
const lastEpoch = math.MaxInt64
