package tables

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// makeInTail makes a table whose first rows are in the tail: nobody sees them
// there before the catalog has the table, and Iceberg's files are left to the first
// fold. Its error wraps icecat.ErrConflict where the table is there.
func (e *entry) makeInTail(ctx context.Context, src *source, o PutOptions) error {
	e.commit.Lock()
	defer e.commit.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil {
		return err
	}
	if e.state.kept != nil {
		return icecat.ErrConflict
	}
	sh, err := newShape(src.schema, 0)
	if err != nil {
		return err
	}
	st := &staging{s: e.s, e: e, info: icecat.Info{Updated: time.Now(), Metadata: o.Metadata}}
	meta, err := e.s.newTable(sh)
	if err == nil {
		meta, err = st.mirror(meta)
	}
	if err != nil {
		return err
	}
	rows, err := e.s.conformed(src, sh.kept)
	defer release(rows)
	if err != nil {
		return err
	}
	log := e.s.tail.Log(meta.TableUUID().String(), -1)
	if len(rows) > 0 {
		err = log.Append(ctx, sh.kept, rows, o.ID, st.info.Updated)
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

// conformed returns the rows read so far in a schema that is kept. The caller
// releases them.
func (s *Store) conformed(src *source, kept *arrow.Schema) ([]arrow.RecordBatch, error) {
	c, err := s.shared.conformer(src.schema, kept)
	if err != nil {
		return nil, err
	}
	rows := make([]arrow.RecordBatch, 0, len(src.read))
	for _, batch := range src.read {
		fit, err := c.apply(batch)
		if err != nil {
			release(rows)
			return nil, err
		}
		rows = append(rows, fit)
	}
	return rows, nil
}
