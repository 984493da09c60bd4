package tables

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/series"
)

// Rewritten says what DeleteRows, ReplaceRange or Upsert did.
type Rewritten struct {
	Version Version `json:"version"`           // the table's newest then
	Deleted int64   `json:"deleted,omitempty"` // rows that were there before
	Written int64   `json:"written,omitempty"` // rows that were put
	Files   int     `json:"files,omitempty"`   // data files that had any of the rows, and were written anew or dropped

	TimeColumn string `json:"time_column,omitempty"` // that the range of ReplaceRange was of
}

// mostRewrites is how often a rewrite begins again since another process changed
// the rows meanwhile.
const mostRewrites = 10

// rewrite is a change of some rows of a table in the making.
type rewrite struct {
	commit.Basis // of an attempt, as are t, def, old, files and done
	e            entry
	put          []iceberg.DataFile // new rows, which need not be written again for another attempt
	puts         int                // files that IO wrote for them

	t          *table.Table
	def        *definition.Definition
	old, files []iceberg.DataFile // of which the second take the place of the first
	evolving   *evolveStep        // nil: the columns stay
	anew       bool               // all files are written anew, for a column of theirs
	done       Rewritten
}

// rewrite commits what plan makes of the newest state of a table. Nobody in this
// process commits to the table meanwhile; small appends go to the tail.
func (b *Bucket) rewrite(ctx context.Context, name string, plan func(context.Context, *rewrite) error) (did Rewritten, err error) {
	ctx, end := b.store().begin(ctx, "rewrite", b.Name(), name)
	defer func() { end(Outcome{Rows: did.Deleted + did.Written, Err: err}) }()
	e, done, err := b.use(name)
	if err != nil {
		return Rewritten{}, err
	}
	defer done()
	w := &rewrite{e: e}
	io := b.store().cat.NewIO()
	defer func() { io.RemoveFailed(err) }()
	err = commit.RetryStale(mostRewrites, func() error {
		io.RemoveAfter(w.puts)
		return w.attempt(ctx, io, plan)
	})
	return w.done, err
}

func (w *rewrite) attempt(ctx context.Context, io *icecat.FileIO, plan func(context.Context, *rewrite) error) (err error) {
	w.e.Commits.Lock()
	defer w.e.Commits.Unlock()
	if w.t, err = w.e.Folded(ctx); err != nil {
		return err
	}
	if w.def, err = definition.Of(w.t.Metadata()); err != nil {
		return err
	}
	if w.Basis, err = commit.BasisOf(w.t, commit.Appends, io); err != nil {
		return err
	}
	w.old, w.files, w.evolving, w.anew, w.done = nil, nil, nil, false, Rewritten{Version: versionOf(w.t.Metadata())}
	if err := plan(ctx, w); err != nil {
		return err
	}
	w.files = append(w.files, w.put...)
	step := commit.Prepared{IO: io, Do: func(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
		if err := w.Holds(cur); err != nil {
			return nil, err
		}
		a.Info.Updated = a.Now
		return commit.ReplaceFiles(ctx, cur, w.old, w.files, nil)
	}}
	if p := w.evolving; p != nil {
		p.Basis, p.old, p.files = w.Basis, w.old, w.files
		step.How, step.Do = commit.Folds, p.apply
	} else if len(w.old)+len(w.files) == 0 {
		return nil
	}
	t, err := w.e.Commit(ctx, step)
	if err != nil {
		return err
	}
	w.done.Version, w.done.Files = versionOf(t.Metadata()), len(w.old)
	return nil
}

// evolve gives the table the columns that rows of a schema need. From then on its files are
// read and written with these, which the commit makes first. The rewrite has to be Since Nothing.
func (w *rewrite) evolve(columns *arrow.Schema) error {
	_, changes, err := w.def.Caster(columns)
	if err != nil || len(changes) == 0 {
		return err
	}
	was := w.t.Metadata()
	ev, err := evolve(was, changesOf(changes))
	if err != nil {
		return err
	}
	w.evolving, w.anew = &evolveStep{e: w.e, by: w.def.Settings.Evolution, shape: ev.shape}, ev.rewrites
	if w.evolving.fit, err = ev.caster(was); err != nil {
		return err
	}
	meta, err := w.evolving.evolved(was)
	if err != nil {
		return err
	}
	w.t = w.e.Staged(meta, w.IO)
	w.def, err = definition.Of(meta)
	return err
}

// series is a table as a Series; nil if its rows have no order.
func (w *rewrite) series(t *table.Table) *series.Series {
	if w.def.Order == nil {
		return nil
	}
	return series.New(w.def, t, w.e.s.opts.Memory)
}

// writer is the table that files are written for.
func (w *rewrite) writer() *table.Table { return w.e.Staged(w.t.Metadata(), w.IO) }
