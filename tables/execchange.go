package tables

import (
	"context"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// change runs an UPDATE, DELETE, MERGE or TRUNCATE. It returns commit.ErrStale if the statement must run again.
//
// A query finds the positions of the changed rows in the table's files, and the new values. The files that contain
// changed rows are then rewritten without them, and the new rows are written to new files. Values that the statement
// does not set never pass through SQL, because SQL cannot represent some of them exactly.
func (x *execution) change(ctx context.Context) (err error) {
	if applied, err := x.wasApplied(ctx); applied || err != nil {
		return err
	}
	e, release, err := x.table.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Wait for other changes before the query: a query that waits for the lock e.Commits would delay other queries.
	if err := canceled.Send(ctx, e.Changing, struct{}{}); err != nil {
		return err
	}
	defer func() { <-e.Changing }()
	w := &rewrite{e: e, id: x.options.ID, checksum: x.checksum(), attempts: x.attempts}
	x.attempts++
	defer w.end()
	fileIO := x.store.cat.NewIO()
	defer func() { fileIO.RemoveFailed(err) }()
	c := &rowChange{execution: x, w: w, replaced: datafile.Deleted{}}
	begin := func(ctx context.Context) (*ScanPlan, error) {
		if err := w.begin(ctx, fileIO); err != nil {
			return nil, err
		}
		// An append during the statement could add rows that match a row in the source, or duplicate a new row.
		if x.statement.Verb == sqlwrite.Merge || w.def.Order.HasRule() {
			w.Allowed = commit.NoChanges
		}
		p, err := c.plan(ctx)
		w.unlock()
		return p, err
	}
	if x.deletesAll() {
		err = w.begin(ctx, fileIO)
		if err == nil {
			err = c.removeAll(ctx)
		}
	} else {
		err = c.run(ctx, begin)
	}
	if err != nil {
		return err
	}
	x.result.Rows = c.count
	if x.options.DryRun {
		return nil
	}
	w.count = c.count
	if err := w.commit(ctx); err != nil {
		return err
	}
	x.result.Version = w.result.Version
	_, err = x.wasApplied(ctx) // sets the result if a concurrent statement with the same ID was applied first
	return err
}

// deletesAll reports whether the statement deletes all rows.
func (x *execution) deletesAll() bool {
	return x.statement.Verb == sqlwrite.Truncate || x.statement.Verb == sqlwrite.Delete && x.statement.From+x.statement.Where == ""
}

// changeQuery returns the query for an UPDATE, DELETE or MERGE.
func (x *execution) changeQuery(ctx context.Context, columns []sqlwrite.Column) (_ *sqlwrite.Change, err error) {
	var sourceColumns []string
	if x.statement.NeedsSource() {
		sourceColumns, err = x.resultNames(ctx, x.statement.SourceQuery())
		if err != nil {
			return nil, err
		}
	}
	return x.statement.ChangeQuery(sqltext.Qualified(TargetSchema, x.result.Table), columns, sourceColumns)
}

func (x *execution) describeChange(ctx context.Context) (*QueryDescription, error) {
	columns, err := x.columns(ctx)
	if err != nil {
		return nil, err
	}
	q, err := x.changeQuery(ctx, columns)
	if err != nil {
		return nil, err
	}
	o := x.queryOptions()
	o.Target = &Target{Bucket: x.result.Bucket, Table: x.result.Table, Alias: x.statement.Alias, Plan: func(ctx context.Context) (*ScanPlan, error) {
		p, err := x.table.ScanPlan(ctx)
		if err != nil {
			return p, err
		}
		for i := range p.Files { // otherwise, the query could not return positions in the file
			p.Files[i].Overlaps = false
		}
		return p, nil
	}}
	d, err := x.store.opts.Engine.Describe(ctx, x.store, q.SQL, o)
	return d, withoutPosition(err)
}

// plan returns the table's state for the query, without rows appended after w.begin.
func (c *rowChange) plan(ctx context.Context) (*ScanPlan, error) {
	// The view has no series, so ScanPlan.Rows returns the rows file by file.
	v := &view{source: c.execution.table.reader(), t: c.w.t, def: c.w.def}
	p := &ScanPlan{view: v}
	p.close = sync.OnceFunc(func() {
		for _, releaseCopy := range p.releaseCopies {
			releaseCopy()
		}
	})
	err := p.plan(ctx)
	if err == nil {
		c.tasks, err = v.tasks(ctx)
	}
	if err == nil && p.NeedsScan {
		c.numbers, err = numberRows(ctx, c.w.t, c.tasks, c.maxBitmapBytes())
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// removeAll plans the removal of all files and counts their rows.
func (c *rowChange) removeAll(ctx context.Context) error {
	tasks, err := datafile.Tasks(ctx, c.w.t)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		c.count += task.File.Count()
		c.w.oldFiles = append(c.w.oldFiles, task.File)
	}
	if slices.ContainsFunc(tasks, datafile.HasDeletes) { // Count includes deleted rows
		n, err := numberRows(ctx, c.w.t, tasks, c.maxBitmapBytes())
		if err != nil {
			return err
		}
		c.count = n.total
	}
	return nil
}

// run runs the query and plans the change. The query calls begin before it reads the table.
func (c *rowChange) run(ctx context.Context, begin func(context.Context) (*ScanPlan, error)) error {
	x := c.execution
	columns, err := x.columns(ctx)
	if err != nil {
		return err
	}
	c.query, err = x.changeQuery(ctx, columns)
	if err != nil {
		return err
	}
	o := x.queryOptions()
	o.Target = &Target{Bucket: x.result.Bucket, Table: x.result.Table, Alias: x.statement.Alias, Plan: func(ctx context.Context) (*ScanPlan, error) {
		p, err := begin(ctx)
		// The query is for other columns if they were changed concurrently.
		if err == nil && !slices.Equal(columns, x.store.sqlColumns(c.w.def.Logical, c.w.def.Stored)) {
			p.Close()
			err = commit.ErrStale
		}
		return p, err
	}}
	o.KeepsNanoseconds = slices.ContainsFunc(c.query.Values, func(i int) bool { return schema.ContainsType(x.logical.Field(i).Type, schema.IsZonedNanos) })
	result, err := x.query(ctx, c.query.SQL, o)
	if err != nil {
		return err
	}
	defer result.Release()
	deletes := &deletePredicate{rows: c.replaced}
	if err := c.addRows(ctx, result, deletes); err != nil {
		return withoutPosition(err)
	}
	if x.options.DryRun {
		return nil
	}
	if err := c.w.remove(ctx, deletes); err != nil {
		return err
	}
	return c.rejectDuplicates(ctx)
}

// rejectDuplicates returns an error if the table has a rule for duplicates and a new row duplicates another new row or
// a row that remains in the table.
func (c *rowChange) rejectDuplicates(ctx context.Context) error {
	w := c.w
	if len(w.addedFiles) == 0 || !w.def.Order.HasRule() {
		return nil
	}
	s := w.series(w.t)
	old := datafile.Paths(w.oldFiles)
	remaining := s.Written(w.newFiles)
	for _, task := range c.tasks {
		if !old[task.File.FilePath()] {
			remaining = append(remaining, s.File(task))
		}
	}
	return s.RejectDuplicates(ctx, remaining, w.addedFiles)
}
