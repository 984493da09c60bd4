package tables

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// createInTail makes a table whose first rows are in the tail: nobody sees them
// there before the catalog has the table, and Iceberg's files are left to the first
// fold. It returns errStale where the table is there.
func (e *entry) createInTail(ctx context.Context, src *datafile.Source, o PutOptions) error {
	e.s.appending.RLock()
	defer e.s.appending.RUnlock()
	e.commit.Lock()
	defer e.commit.Unlock()
	if t, err := e.current(ctx); t != nil || err != nil {
		return cmp.Or(err, errStale)
	}
	sh, err := schema.NewShape(withDictionaries(src.Schema, src), 0)
	if err != nil {
		return err
	}
	meta, err := e.s.newTable(sh, o.Settings)
	if err != nil {
		return err
	}
	d, err := definition.Of(meta)
	if err != nil {
		return err
	}
	if d.Order != nil && d.Order.Rule == RefuseDuplicate {
		return errNeedsCommit
	}
	ck, err := e.checker(ctx, nil, nil, src.Schema, d.Stored, d.Logical, "")
	if err != nil {
		return err
	}
	c, _, err := d.Caster(src.Schema)
	if err != nil {
		return err
	}
	rows, err := castAll(ctx, src, c, ck)
	defer release(rows)
	if err == nil {
		err = series.Check(d.Order, rows...)
	}
	if err != nil {
		return err
	}
	log := e.s.tail.Log(meta.TableUUID().String(), -1)
	if len(rows) > 0 {
		if err = log.Append(ctx, d.Stored, rows, o.ID, time.Now()); err == nil {
			err = e.s.tail.Flush(ctx) // no table without its rows, whatever Options.Sync says
		}
	}
	if err == nil {
		_, err = e.commitSteps(ctx, &createStep{meta, o.Metadata})
	}
	if errors.Is(err, partd.ErrUnknownOutcome) { // if there is the table, its log is found again
		log.Release()
		return err
	}
	if err != nil {
		err = errors.Join(err, e.s.tail.Discard(context.WithoutCancel(ctx), log))
	}
	return err
}

// createStep makes a table without files, whose rows are in the tail.
type createStep struct {
	made     table.Metadata
	metadata Metadata
}

func (c *createStep) apply(_ context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if cur != nil {
		return nil, errStale
	}
	a.info.Updated, a.info.Metadata, a.inline = a.now, c.metadata, true
	return c.made, nil
}

// castAll returns the rows read so far in the types that are stored, once they were checked.
// The caller releases them.
func castAll(ctx context.Context, src *datafile.Source, c *schema.Caster, ck *rules.Check) (rows []arrow.RecordBatch, err error) {
	defer ck.Close()
	rows = make([]arrow.RecordBatch, 0, len(src.Batches))
	for i := 0; i < len(src.Batches) && err == nil; i++ {
		var fit arrow.RecordBatch
		if fit, err = c.Cast(src.Batches[i]); err == nil {
			rows = append(rows, fit)
			err = ck.Add(ctx, fit)
		}
	}
	if err == nil {
		err = ck.End(ctx)
	}
	if err != nil {
		release(rows)
		return nil, err
	}
	return rows, nil
}
