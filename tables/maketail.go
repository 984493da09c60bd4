package tables

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
)

// makeInTail makes a table whose first rows are in the tail: nobody sees them
// there before the catalog has the table, and Iceberg's files are left to the first
// fold. Its error wraps icecat.ErrConflict where the table is there.
func (e *entry) makeInTail(ctx context.Context, src *source, o PutOptions) error {
	e.s.appending.RLock()
	defer e.s.appending.RUnlock()
	e.commit.Lock()
	defer e.commit.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil {
		return err
	}
	if e.state.def != nil {
		return icecat.ErrConflict
	}
	sh, err := schema.NewShape(withDictionaries(src.schema, src), 0)
	if err != nil {
		return err
	}
	st := &staging{s: e.s, e: e, info: icecat.Info{Updated: time.Now(), Metadata: o.Metadata}}
	meta, err := e.s.newTable(sh, o.Settings)
	if err == nil {
		meta, err = st.mirror(meta)
	}
	if err != nil {
		return err
	}
	d, err := definition.Of(meta)
	if err != nil {
		return err
	}
	if d.Order != nil && d.Order.Rule == RefuseDuplicate {
		return errCommitted
	}
	bucket, err := e.s.cat.Property(ctx, e.Namespace, rulesProperty)
	if err != nil {
		return err
	}
	ck, err := e.checker(ctx, nil, src.schema, sh.Stored, schema.Plain(src.schema), "", bucket)
	if err != nil {
		return err
	}
	c, _, err := d.Caster(src.schema)
	if err != nil {
		return err
	}
	rows, err := castAll(ctx, src, c, ck)
	defer release(rows)
	if err == nil {
		err = checkOrder(d.Order, rows)
	}
	if err != nil {
		return err
	}
	log := e.s.tail.Log(meta.TableUUID().String(), -1)
	if len(rows) > 0 {
		err = log.Append(ctx, sh.Stored, rows, o.ID, st.info.Updated)
		if err == nil {
			err = e.s.tail.Flush(ctx) // no table without its rows, whatever Options.Sync says
		}
	}
	if err == nil {
		ch := &icecat.Change{Namespace: e.Namespace, Name: e.Name, New: meta, Info: &st.info, Light: true, IOs: []*icecat.FileIO{e.s.cat.NewIO()}}
		if err = e.s.cat.Commit(ctx, ch); err == nil {
			e.log = log
			return e.set(ctx, ch.Result)
		}
	}
	if errors.Is(err, partd.ErrUnknownOutcome) { // if there is the table, its log is found again
		log.Release()
		return err
	}
	e.log = log
	return errors.Join(err, e.forget(context.WithoutCancel(ctx)))
}

// castAll returns the rows read so far in the types that are stored, once they were checked.
// The caller releases them.
func castAll(ctx context.Context, src *source, c *schema.Caster, ck *check) (rows []arrow.RecordBatch, err error) {
	defer ck.close()
	rows = make([]arrow.RecordBatch, 0, len(src.read))
	for i := 0; i < len(src.read) && err == nil; i++ {
		var fit arrow.RecordBatch
		if fit, err = c.Cast(src.read[i]); err == nil {
			rows = append(rows, fit)
			err = ck.add(ctx, fit)
		}
	}
	if err == nil {
		err = ck.end(ctx)
	}
	if err != nil {
		release(rows)
		return nil, err
	}
	return rows, nil
}
