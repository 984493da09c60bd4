package tables

import (
	"context"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/sqlquote"
	"github.com/go-partd/partd/tables/internal/sqlwrite"
)

// change runs an UPDATE, DELETE, MERGE or TRUNCATE. It returns commit.ErrStale if the statement must run again.
//
// A query finds the positions of the changed rows in the table's files, and the new values. The rows of the files that
// contain changed rows are then written to new files. All other values are copied without a detour through SQL, whose
// types are fewer.
func (x *execution) change(ctx context.Context) (err error) {
	if applied, err := x.applied(ctx); applied || err != nil {
		return err
	}
	e, release, err := x.table.acquire()
	if err != nil {
		return err
	}
	defer release()
	w := &rewrite{e: e, id: x.o.ID, checksum: x.checksum()}
	fileIO := x.s.cat.NewIO()
	defer func() { fileIO.RemoveFailed(err) }()
	c := &rowChange{x: x, w: w, replaced: map[string]*rowSet{}}
	var locked bool
	defer func() {
		if locked {
			e.Commits.Unlock()
		}
	}()
	begin := func(ctx context.Context) (_ *ScanPlan, err error) {
		e.Commits.Lock()
		locked = true
		if err := w.begin(ctx, fileIO); err != nil {
			return nil, err
		}
		if x.st.Verb == sqlwrite.Merge {
			w.Allowed = commit.NoChanges
		}
		return c.plan(ctx)
	}
	if x.changesAll() {
		var p *ScanPlan
		if p, err = begin(ctx); err == nil {
			p.Close()
			c.removeAll()
		}
	} else {
		err = c.run(ctx, begin)
	}
	if err != nil {
		return err
	}
	x.result.Rows = c.count
	if x.o.DryRun {
		return nil
	}
	w.count = c.count
	if err := w.commit(ctx); err != nil {
		return err
	}
	x.result.Version = w.result.Version
	_, err = x.applied(ctx) // a concurrent statement with the same ID can have come first
	return err
}

// changesAll reports whether the statement deletes all rows.
func (x *execution) changesAll() bool {
	return x.st.Verb == sqlwrite.Truncate || x.st.Verb == sqlwrite.Delete && x.st.From+x.st.Where == ""
}

// changeQuery returns the query of an UPDATE, DELETE or MERGE.
func (x *execution) changeQuery(ctx context.Context, columns []sqlwrite.Column) (_ *sqlwrite.Change, err error) {
	var sourceColumns []string
	if x.st.NeedsSource() {
		if sourceColumns, err = x.resultNames(ctx, x.st.SourceQuery()); err != nil {
			return nil, err
		}
	}
	return x.st.ChangeQuery(sqlquote.Qualified(TargetSchema, x.result.Table), columns, sourceColumns)
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
	o.Target = &Target{Bucket: x.result.Bucket, Table: x.result.Table, Alias: x.st.Alias, Plan: x.table.ScanPlan}
	d, err := x.s.opts.Engine.Describe(ctx, x.s, q.SQL, o)
	return d, withoutPosition(err)
}

// rowChange is a change to some rows of a table.
type rowChange struct {
	x        *execution
	w        *rewrite
	query    *sqlwrite.Change
	tasks    []table.FileScanTask // the table's files
	firstRow []int64              // if rows are numbered across files, the number of each file's first row; otherwise nil
	rows     int64                // number of the table's rows, if firstRow is not nil
	replaced map[string]*rowSet   // rows to remove, by the path of their file
	count    int64                // number of changed rows
}

// plan returns the table's state for the query. It lacks rows that have been appended since w.begin.
func (c *rowChange) plan(ctx context.Context) (*ScanPlan, error) {
	// The view has no series, so that ScanPlan.Rows returns the rows file by file.
	v := &view{source: c.x.table, t: c.w.t, def: c.w.def}
	p := &ScanPlan{view: v}
	p.close = sync.OnceFunc(func() {
		for _, releaseCopy := range p.copies {
			releaseCopy()
		}
	})
	err := p.plan(ctx)
	if err == nil {
		c.tasks, err = v.tasks(ctx)
	}
	if err == nil && p.NeedsScan {
		err = c.numberRows(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// numberRows sets firstRow. It reads the files, because a file's metadata does not say how many of its rows are deleted.
func (c *rowChange) numberRows(ctx context.Context) error {
	for _, task := range c.tasks {
		c.firstRow = append(c.firstRow, c.rows)
		for b, err := range datafile.ReadRows(ctx, c.w.t, []table.FileScanTask{task}) {
			if err != nil {
				return err
			}
			c.rows += b.NumRows()
			b.Release()
		}
	}
	return nil
}

// locate returns the index of the file that contains a row, and the number of the row in it.
func (c *rowChange) locate(file, row int64) (int, int64) {
	if c.firstRow == nil {
		return int(file), row
	}
	i, found := slices.BinarySearch(c.firstRow, row)
	if !found {
		i--
	}
	for i+1 < len(c.firstRow) && c.firstRow[i+1] == row { // skip files without rows
		i++
	}
	return i, row - c.firstRow[i]
}

// removeAll plans the removal of all files.
func (c *rowChange) removeAll() {
	for _, task := range c.tasks {
		c.count += task.File.Count()
		c.w.oldFiles = append(c.w.oldFiles, task.File)
	}
	if c.firstRow != nil { // files' metadata ignores deleted rows
		c.count = c.rows
	}
}

// run runs the query, and plans the change. It calls begin before the query reads the table.
func (c *rowChange) run(ctx context.Context, begin func(context.Context) (*ScanPlan, error)) error {
	x := c.x
	columns, err := x.columns(ctx)
	if err != nil {
		return err
	}
	if c.query, err = x.changeQuery(ctx, columns); err != nil {
		return err
	}
	o := x.queryOptions()
	o.Target = &Target{Bucket: x.result.Bucket, Table: x.result.Table, Alias: x.st.Alias, Plan: func(ctx context.Context) (*ScanPlan, error) {
		p, err := begin(ctx)
		if err == nil && !slices.Equal(columns, x.s.sqlColumns(c.w.def.Logical, c.w.def.Stored)) { // another program has changed the columns
			p.Close()
			err = commit.ErrStale
		}
		return p, err
	}}
	result, err := x.query(ctx, c.query.SQL, o)
	if err != nil {
		return err
	}
	defer result.Release()
	deletes := &deletePredicate{inFile: c.inFile}
	if err := c.addRows(ctx, result, deletes); err != nil {
		return withoutPosition(err)
	}
	if x.o.DryRun {
		return nil
	}
	if err := c.removeRows(ctx, deletes); err != nil {
		return err
	}
	return c.rejectDuplicates(ctx)
}

// removeRows plans the removal of the replaced rows.
func (c *rowChange) removeRows(ctx context.Context, deletes *deletePredicate) error {
	w := c.w
	dropped := map[string]bool{}
	var touched []table.FileScanTask
	for _, task := range c.tasks {
		path := task.File.FilePath()
		switch rows := c.replaced[path]; {
		case rows == nil:
		case rows.n == task.File.Count() && !datafile.HasDeletes(task):
			dropped[path] = true
			w.oldFiles = append(w.oldFiles, task.File)
		default:
			touched = append(touched, task)
		}
	}
	groups, err := w.groupFiles(ctx, touched, dropped)
	for i := 0; i < len(groups) && err == nil; i++ {
		err = w.rewriteGroup(ctx, groups[i], deletes)
	}
	return err
}

// rejectDuplicates returns an error if the table has a rule for duplicates, and a new row duplicates a row that stays.
func (c *rowChange) rejectDuplicates(ctx context.Context) error {
	w := c.w
	if len(w.added) == 0 || w.def.Order == nil || w.def.Order.Rule == "" || w.def.Order.Rule == KeepAll {
		return nil
	}
	w.Allowed = commit.NoChanges // a concurrent append could add rows that duplicate the new rows
	s := w.series(w.t)
	old := paths(w.oldFiles)
	remaining := s.Written(w.newFiles)
	for _, task := range c.tasks {
		if !old[task.File.FilePath()] {
			remaining = append(remaining, s.File(task))
		}
	}
	return s.RejectDuplicates(ctx, remaining, w.added)
}

// inFile implements deletePredicate.inFile.
func (c *rowChange) inFile(path string) func(b arrow.RecordBatch) ([]bool, error) {
	rows, offset := c.replaced[path], int64(0)
	return func(b arrow.RecordBatch) ([]bool, error) {
		selected := make([]bool, b.NumRows())
		for i := range selected {
			selected[i] = rows.has(offset + int64(i))
		}
		offset += b.NumRows()
		return selected, nil
	}
}

// rowSet is a set of row numbers.
type rowSet struct {
	bits []uint64
	n    int64 // number of rows in the set
}

// add adds a row, and reports whether it was missing.
func (s *rowSet) add(row int64) bool {
	word, bit := int(row/64), uint64(1)<<(row%64)
	if word >= len(s.bits) {
		s.bits = append(s.bits, make([]uint64, word+1-len(s.bits))...)
	}
	if s.bits[word]&bit != 0 {
		return false
	}
	s.bits[word] |= bit
	s.n++
	return true
}

func (s *rowSet) has(row int64) bool {
	return s != nil && row/64 < int64(len(s.bits)) && s.bits[row/64]&(1<<(row%64)) != 0
}
