//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// eachJob runs the statement of [Each].
type eachJob struct {
	sql    string
	plan   EachPlan
	tables []*boundTable   // the inputs; files are those of the current part
	types  []*arrow.Schema // of the inputs' files
	files  scratch
	db     *database.Database
	opened int // number of databases opened so far
}

// errStopped means that the caller of Each stopped.
var errStopped = errors.New("stopped")

// Each divides the rows of inputs into parts, so that all rows whose columns By are equal are in the same part of every
// input, and runs a SELECT statement once for each part. It yields the result of each part; a result is valid until the
// next one. Parts come in any order. If all inputs are empty, the statement runs once.
//
// Keys are equal if GROUP BY considers them equal: NULL equals NULL, NaN equals NaN, and -0 equals 0. If the statement
// cannot be proved to have the same rows in its results as it has if it runs once for all rows, Each returns an error
// that wraps [ErrNotPerKey].
func Each(ctx context.Context, sql string, inputs []EachInput, o *EachOptions) iter.Seq2[array.RecordReader, error] {
	return func(yield func(array.RecordReader, error) bool) {
		err := each(ctx, sql, inputs, cmp.Or(o, new(EachOptions)), func(r array.RecordReader) bool { return yield(r, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, &tables.OpError{Op: "each", Err: explainInterrupt(ctx, err)})
		}
	}
}

// PlanEach returns how [Each] would run a statement, or the error with which Each would refuse it. It reads no rows.
func PlanEach(ctx context.Context, sql string, inputs []EachInput, o *EachOptions) (*EachPlan, error) {
	o = cmp.Or(o, new(EachOptions))
	dir, dirs, err := tempdir.NewDir(o.Temp)
	if err != nil {
		return nil, &tables.OpError{Op: "each", Err: err}
	}
	j := &eachJob{sql: sql, files: scratch{dir: dir}}
	err = errors.Join(j.prepare(ctx, inputs, o), j.close(), dirs.Close())
	if err != nil {
		return nil, &tables.OpError{Op: "each", Err: explainInterrupt(ctx, err)}
	}
	return &j.plan, nil
}

func each(ctx context.Context, sql string, inputs []EachInput, o *EachOptions, yield func(array.RecordReader) bool) (err error) {
	dir, dirs, err := tempdir.NewDir(o.Temp)
	if err != nil {
		return err
	}
	j := &eachJob{sql: sql, files: scratch{dir: dir}}
	defer func() { err = errors.Join(err, j.close(), dirs.Close()) }()
	if err := j.prepare(ctx, inputs, o); err != nil {
		return err
	}
	rows := make([]parted.Input, len(inputs))
	for i, in := range inputs {
		rows[i] = parted.Input{Name: in.Name, By: in.By, Rows: selectColumns(in.Rows, j.plan.Inputs[i].Columns)}
		defer rows[i].Rows.Release()
	}
	options := &parted.Options{Memory: j.plan.Memory, PartBytes: j.plan.PartBytes, Parts: o.Parts, Temp: o.Temp}
	return parted.Each(ctx, rows, options, func(ctx context.Context, p *parted.Part) error { return j.runPart(ctx, p, yield) })
}

// prepare checks the statement and the inputs, and makes the plan.
func (j *eachJob) prepare(ctx context.Context, inputs []EachInput, o *EachOptions) error {
	memory := cmp.Or(o.Memory, DefaultEachMemory)
	if memory < 64<<20 {
		return fmt.Errorf("the limit of memory is %d bytes: use at least %d", memory, 64<<20)
	}
	if o.Parts < 0 {
		return fmt.Errorf("the number of parts is %d: it must not be negative", o.Parts)
	}
	j.plan = EachPlan{Memory: memory / 2, PartBytes: memory / 8}
	rows, keyed := make([]parted.Input, len(inputs)), make([]database.KeyedInput, len(inputs))
	for i, in := range inputs {
		rows[i] = parted.Input{Name: in.Name, Rows: in.Rows, By: in.By}
		keyed[i] = database.KeyedInput{Name: in.Name, Columns: schema.Names(in.Rows.Schema()), By: in.By}
	}
	if err := errors.Join(parted.Check(rows), j.open()); err != nil {
		return err
	}
	j.db.CancelWith(ctx)
	columns, err := j.db.PerKey(j.sql, keyed)
	j.db.Finish()
	if err != nil && !(o.Trust && errors.Is(err, ErrNotPerKey)) {
		return err
	}
	for i, in := range inputs {
		p := EachPlanInput{Name: in.Name, By: in.By}
		for _, name := range schema.Names(in.Rows.Schema()) {
			if i >= len(columns) || columns[i] == nil || slices.ContainsFunc(columns[i], func(c string) bool { return strings.EqualFold(c, name) }) {
				p.Columns = append(p.Columns, name)
			}
		}
		j.plan.Inputs = append(j.plan.Inputs, p)
		if err := j.addTable(in.Name, schema.Select(in.Rows.Schema(), p.Columns)); err != nil {
			return fmt.Errorf("input %s: %w", sqltext.Name(in.Name), err)
		}
	}
	return nil
}

// addTable adds the table of an input.
func (j *eachJob) addTable(name string, columns *arrow.Schema) error {
	t := &boundTable{schema: mainSchema, name: name, allColumns: true, plan: &tables.ScanPlan{}}
	stored := make([]arrow.Field, columns.NumFields())
	for i, f := range schema.WithoutEncodings(columns).Fields() {
		to, err := schema.StoredType(f.Type)
		if err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
		id := strconv.Itoa(i + 1)
		stored[i] = arrow.Field{Name: f.Name, Type: to, Nullable: true, Metadata: arrow.NewMetadata([]string{"PARQUET:field_id"}, []string{id})}
		t.columns = append(t.columns, column{id, f.Name, sqlType(f.Type, to)})
	}
	j.tables = append(j.tables, t)
	j.types = append(j.types, arrow.NewSchema(stored, nil))
	return nil
}

// selectColumns returns a reader of some of a reader's columns.
func selectColumns(r array.RecordReader, names []string) array.RecordReader {
	to := schema.Select(r.Schema(), names)
	r.Retain()
	project := func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Project(b, to), nil }
	return arrowsafe.Reader(to, arrowsafe.Each(r, project), r.Release)
}

// open opens a new database.
func (j *eachJob) open() (err error) {
	if j.db != nil {
		j.db.Close()
	}
	j.opened++
	limits := &database.Options{Memory: j.plan.Memory, MaxTemp: 1 << 50, OneStatement: true, Threads: min(runtime.GOMAXPROCS(0), max(1, int(j.plan.Memory/threadMemory)))}
	j.db, err = database.Open(limits, filepath.Join(j.files.dir, fmt.Sprintf("spill-%d", j.opened)))
	return err
}

func (j *eachJob) close() error {
	if j.db != nil {
		j.db.Close()
	}
	return nil
}

// runPart runs the statement for a part, and yields its result.
func (j *eachJob) runPart(ctx context.Context, p *parted.Part, yield func(array.RecordReader) bool) (err error) {
	defer func() {
		for _, t := range j.tables {
			if t.extraRows != nil {
				t.extraRows.remove()
			}
			t.extraRows, t.files = nil, nil
		}
	}()
	rows, bytes := int64(0), int64(0)
	for i := range p.Inputs {
		if err := j.writeInput(ctx, i, &p.Inputs[i]); err != nil {
			return err
		}
		rows, bytes = rows+p.Inputs[i].Rows, bytes+p.Inputs[i].Bytes
	}
	result, err := j.start(ctx, false)
	// As in Engine.Query, a single thread that writes temporary files from the beginning needs less memory.
	if database.NeedsMemory(err) && ctx.Err() == nil {
		result, err = j.start(ctx, true)
	}
	if err == nil {
		r := arrowsafe.Reader(result.Schema(), arrowsafe.Until(result.Next), result.End)
		if !yield(r) {
			err = errStopped
		}
		err = cmp.Or(r.Err(), err)
		r.Release()
	}
	j.db.Finish()
	switch {
	case database.NeedsMemory(err) && p.OneKey:
		return fmt.Errorf("the rows of key %s are too large: %d rows, %d bytes: %w", p.Key, rows, bytes, err)
	case database.NeedsMemory(err):
		return fmt.Errorf("a part of %d rows, %d bytes, is too large: raise the number of parts: %w", rows, bytes, err)
	}
	return err
}

// writeInput writes the rows of a part's input to the file of the input's view.
func (j *eachJob) writeInput(ctx context.Context, i int, in *parted.PartInput) error {
	t := j.tables[i]
	if in.Rows == 0 {
		return nil
	}
	f := &scratchFile{path: j.inputPath(i)}
	t.extraRows = f
	if err := f.writeBatches(ctx, j.types[i], in.Bytes/in.Rows, in.Read(ctx)); err != nil {
		return err
	}
	if f.rows != in.Rows {
		return fmt.Errorf("temporary data of input %s: it has %d rows instead of %d", sqltext.Name(t.name), f.rows, in.Rows)
	}
	t.files = []tables.PlannedFile{f.planned()}
	return nil
}

// start starts the statement for the current part. If spills is set, the statement needs less memory, but more time.
func (j *eachJob) start(ctx context.Context, spills bool) (database.Rows, error) {
	// A database that has run a statement keeps memory for the next one, and more after each.
	if err := j.open(); err != nil {
		return nil, err
	}
	job := &database.Job{SQL: j.sql, Memory: j.plan.Memory, Spills: spills}
	if spills {
		job.Threads = 1
	}
	empty, err := j.files.emptyFile()
	if err != nil {
		return nil, err
	}
	job.Paths = []string{empty}
	for i, t := range j.tables {
		t.emptyFile = empty
		job.Paths = append(job.Paths, j.inputPath(i))
		job.Tables = append(job.Tables, t.qualifiedSchema()+"."+sqltext.Name(t.name))
		job.Views = append(job.Views, t.view())
	}
	j.db.CancelWith(ctx)
	result, err := j.db.Start(ctx, job)
	if err != nil {
		j.db.Finish()
	}
	return result, err
}

func (j *eachJob) inputPath(i int) string {
	return filepath.Join(j.files.dir, fmt.Sprintf("input-%d.parquet", i))
}
