package tables

import (
	"cmp"
	"context"
	"errors"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Rewritten says what DeleteRows, ReplaceRange or Upsert did.
type Rewritten struct {
	Version Version // the table's newest then
	Deleted int64   // rows that were there before
	Written int64   // rows that were put
	Files   int     // data files that had any of the rows, and were written anew or dropped
}

// mostRewrites is how often a rewrite begins again since another process changed
// the rows meanwhile.
const mostRewrites = 10

// rewrite is a change of some rows of a table in the making.
type rewrite struct {
	e    *entry
	io   *icecat.FileIO
	put  []iceberg.DataFile // new rows, which need not be written again for another attempt
	puts int                // files that io wrote for them

	// Of an attempt:
	t              *table.Table
	def            *definition.Definition
	kept, returned *arrow.Schema
	settings       Settings
	order          *order // nil: none
	step           *rewriteStep
	done           Rewritten
}

// rewrite commits what plan makes of the newest state of a table. Nobody in this
// process commits to the table meanwhile; small appends go to the tail.
func (b *Bucket) rewrite(ctx context.Context, name string, plan func(context.Context, *rewrite) error) (_ Rewritten, err error) {
	n, err := b.check(name)
	if err != nil {
		return Rewritten{}, err
	}
	e, err := b.s.acquire(n)
	if err != nil {
		return Rewritten{}, err
	}
	defer e.release()
	p, err := b.s.pin()
	if err != nil {
		return Rewritten{}, err
	}
	defer b.s.unpin(p)
	w := &rewrite{e: e, io: b.s.cat.NewIO()}
	defer func() {
		if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			w.io.RemoveWritten()
		}
	}()
	for range mostRewrites {
		err := w.attempt(ctx, plan)
		if !errors.Is(err, errRestage) {
			return w.done, err
		}
		w.io.RemoveAfter(w.puts)
	}
	return Rewritten{}, ErrConflict
}

func (w *rewrite) attempt(ctx context.Context, plan func(context.Context, *rewrite) error) (err error) {
	w.e.commit.Lock()
	defer w.e.commit.Unlock()
	// What was acknowledged before is in files then, or committed by another process.
	if _, err := w.e.foldLocked(ctx); err != nil {
		return err
	}
	if w.t, err = w.e.current(ctx); err != nil {
		return err
	}
	if w.t == nil {
		return ErrNotFound
	}
	meta := w.t.Metadata()
	if w.def, err = definition.Of(meta); err != nil {
		return err
	}
	w.kept, w.returned, w.settings, w.order = w.def.Stored, w.def.Logical, w.def.Settings, orderIn(w.def)
	w.done = Rewritten{Version: versionOf(meta)}
	w.step = &rewriteStep{io: w.io, uuid: meta.TableUUID().String(), schema: meta.CurrentSchema().ID, base: meta.CurrentSnapshot(), order: w.order}
	if err := plan(ctx, w); err != nil {
		return err
	}
	w.step.files = append(w.step.files, w.put...)
	if len(w.step.old)+len(w.step.files) == 0 {
		return nil
	}
	if w.e.s.hooks.staged != nil {
		w.e.s.hooks.staged()
	}
	c := &change{e: w.e}
	c.add(w.step)
	if err := w.e.s.attempts(ctx, []*change{c}); err != nil {
		return err
	}
	w.done.Version = versionOf(c.result.Metadata())
	w.done.Files = len(w.step.old)
	return nil
}

// rewriteStep puts files in the place of others, of which there may be none.
type rewriteStep struct {
	io         *icecat.FileIO
	old, files []iceberg.DataFile
	uuid       string // the table and its schema that the files were written for
	schema     int
	order      *order
	base       *table.Snapshot // that was read; nil: there was none
	strict     bool            // rows that others added since matter
}

func (r *rewriteStep) wrote() *icecat.FileIO { return r.io }

func (r *rewriteStep) stage(ctx context.Context, st *staging, cur *table.Table) (table.Metadata, error) {
	if cur == nil || cur.Metadata().TableUUID().String() != r.uuid || cur.Metadata().CurrentSchema().ID != r.schema {
		return nil, errRestage
	}
	if is, err := orderOf(cur.Metadata()); err != nil || !reflect.DeepEqual(is, r.order) {
		return nil, cmp.Or(err, errRestage)
	}
	now := cur.CurrentSnapshot()
	same := r.base == nil && now == nil || r.base != nil && now != nil && r.base.SnapshotID == now.SnapshotID
	if !same && (r.strict || r.base == nil || !onlyAppended(cur, r.base.SnapshotID)) {
		return nil, errRestage
	}
	st.info.Updated = st.now
	return replaceFiles(ctx, cur, r.old, r.files, nil)
}
