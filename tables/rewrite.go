package tables

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Rewritten says what DeleteRows, ReplaceRange or Upsert did.
type Rewritten struct {
	Version Version `json:"version"`           // the table's newest then
	Deleted int64   `json:"deleted,omitempty"` // rows that were there before
	Written int64   `json:"written,omitempty"` // rows that were put
	Files   int     `json:"files,omitempty"`   // data files that had any of the rows, and were written anew or dropped
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
	order          *definition.Order // nil: none
	step           *rewriteStep
	done           Rewritten
}

// rewrite commits what plan makes of the newest state of a table. Nobody in this
// process commits to the table meanwhile; small appends go to the tail.
func (b *Bucket) rewrite(ctx context.Context, name string, plan func(context.Context, *rewrite) error) (_ Rewritten, err error) {
	e, done, err := b.use(name)
	if err != nil {
		return Rewritten{}, err
	}
	defer done()
	w := &rewrite{e: e, io: b.s.cat.NewIO()}
	defer func() { removeWritten(err, w.io) }()
	err = retryStale(mostRewrites, func() error {
		w.io.RemoveAfter(w.puts)
		return w.attempt(ctx, plan)
	})
	return w.done, err
}

func (w *rewrite) attempt(ctx context.Context, plan func(context.Context, *rewrite) error) (err error) {
	w.e.commit.Lock()
	defer w.e.commit.Unlock()
	if w.t, err = w.e.folded(ctx); err != nil {
		return err
	}
	meta := w.t.Metadata()
	if w.def, err = definition.Of(meta); err != nil {
		return err
	}
	w.kept, w.returned, w.settings = w.def.Stored, w.def.Logical, w.def.Settings
	w.done, w.step = Rewritten{Version: versionOf(meta)}, &rewriteStep{}
	if w.step.basis, err = basisOf(w.t, appends, w.io); err != nil {
		return err
	}
	w.order = w.step.order
	if err := plan(ctx, w); err != nil {
		return err
	}
	w.step.files = append(w.step.files, w.put...)
	if len(w.step.old)+len(w.step.files) == 0 {
		return nil
	}
	t, err := w.e.commitSteps(ctx, w.step)
	if err != nil {
		return err
	}
	w.done.Version = versionOf(t.Metadata())
	w.done.Files = len(w.step.old)
	return nil
}

// rewriteStep puts files in the place of others, of which there may be none.
type rewriteStep struct {
	basis
	old, files []iceberg.DataFile
}

func (r *rewriteStep) apply(ctx context.Context, a *attempt, cur *table.Table) (table.Metadata, error) {
	if err := r.holds(cur); err != nil {
		return nil, err
	}
	a.info.Updated = a.now
	return replaceFiles(ctx, cur, r.old, r.files, nil)
}
