//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// eachJob runs the statement of [Each].
type eachJob struct {
	sql    string
	plan   EachPlan
	tables []*boundTable   // the inputs, each with the files of the current part
	types  []*arrow.Schema // schemas of the inputs' files
	files  scratch
	db     *database.Database
	opened int // number of databases opened so far

	divides   bool         // whether a part that needs too much memory is divided
	written   atomic.Int64 // number of parts written so far
	partBytes atomic.Int64 // parts with more bytes are divided, unless they have a single key
}

// withJob calls f with a prepared job.
func withJob(ctx context.Context, sql string, inputs []EachInput, o *EachOptions, f func(*eachJob) error) (err error) {
	dir, dirs, err := tempdir.NewDir(o.Temp)
	if err != nil {
		return err
	}
	j := &eachJob{sql: sql, files: scratch{dir: dir}, divides: o.Parts == 0}
	j.partBytes.Store(math.MaxInt64)
	defer func() {
		j.close()
		err = errors.Join(err, dirs.Close())
	}()
	if err := j.prepare(ctx, inputs, o); err != nil {
		return err
	}
	return f(j)
}

func (j *eachJob) options(o *EachOptions) *parted.Options {
	return &parted.Options{Memory: j.plan.Memory, PartBytes: j.plan.PartBytes, Parts: o.Parts, Temp: o.Temp}
}

// prepare checks the statement and the inputs and makes the plan.
func (j *eachJob) prepare(ctx context.Context, inputs []EachInput, o *EachOptions) error {
	memory := cmp.Or(o.Memory, DefaultEachMemory)
	if memory < 64<<20 {
		return fmt.Errorf("the memory limit is %d bytes: use at least %d", memory, 64<<20)
	}
	j.plan = EachPlan{Memory: memory / 2, PartBytes: memory / 8}
	rows, keyed := make([]parted.Input, len(inputs)), make([]database.KeyedInput, len(inputs))
	for i, in := range inputs {
		rows[i] = parted.Input{Name: in.Name, Rows: in.Rows, By: in.By}
		keyed[i] = database.KeyedInput{Name: in.Name, Columns: schema.Names(in.Rows.Schema()), By: in.By}
		isSame := func(other EachInput) bool { return strings.EqualFold(other.Name, in.Name) }
		if slices.ContainsFunc(inputs[:i], isSame) {
			return fmt.Errorf("two inputs have the name %s: SQL ignores case, so rename one of them", sqltext.Name(in.Name))
		}
		if err := checkNames(in.Rows.Schema()); err != nil {
			return fmt.Errorf("input %s: %w", sqltext.Name(in.Name), err)
		}
	}
	if err := cmp.Or(checkStatement(j.sql), j.open()); err != nil {
		return err
	}
	defer j.close() // each part has its own database
	j.db.CancelWith(ctx)
	if !slices.ContainsFunc(inputs, func(in EachInput) bool { return len(in.By) > 0 }) {
		if err := j.findKeys(keyed, rows, o); err != nil {
			return err
		}
	}
	if err := parted.Check(rows, j.options(o)); err != nil {
		return err
	}
	perKey, columns, err := j.db.PerKey(j.sql, keyed)
	if err != nil && !(o.Trust && errors.Is(err, ErrNotPerKey)) {
		return err
	}
	factor, err := j.db.MemoryFactor(j.sql)
	if err != nil {
		return err
	}
	j.plan.PartBytes /= factor
	for i, in := range inputs {
		names := keyed[i].Columns
		if columns != nil && columns[i] != nil {
			names = columns[i]
		}
		j.plan.Inputs = append(j.plan.Inputs, EachPlanInput{Name: in.Name, By: rows[i].By, Columns: names})
		if err := j.addTable(in.Name, schema.Select(in.Rows.Schema(), names)); err != nil {
			return fmt.Errorf("input %s: %w", sqltext.Name(in.Name), err)
		}
	}
	j.plan.Result, _, err = j.db.Describe(j.job()) // before the inputs are read
	if !o.Trust {
		j.sql = perKey // only after Describe, whose errors have positions in the statement as written
	}
	return err
}

// findKeys sets the keys of the inputs from the statement.
func (j *eachJob) findKeys(keyed []database.KeyedInput, rows []parted.Input, o *EachOptions) error {
	setBy := func(by func(i int) []string) {
		for i := range rows {
			rows[i].By = by(i)
		}
	}
	err := j.db.FindKeys(j.sql, keyed, func(columns []string) bool {
		setBy(func(i int) []string { return columns[i : i+1] })
		return parted.Check(rows, j.options(o)) == nil
	})
	setBy(func(i int) []string { return keyed[i].By })
	if err != nil {
		err = fmt.Errorf("no key is given, and none is found in the statement: %w", err)
	}
	return err
}

// addTable adds the table of an input.
func (j *eachJob) addTable(name string, columns *arrow.Schema) error {
	empty, err := j.files.emptyFile()
	if err != nil {
		return err
	}
	t := &boundTable{schema: mainSchema, name: name, allColumns: true, plan: &tables.ScanPlan{}, emptyFile: empty}
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

// selectColumns returns a reader of the named columns of r.
func selectColumns(r array.RecordReader, names []string) array.RecordReader {
	to := schema.Select(r.Schema(), names)
	r.Retain()
	project := func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Project(b, to), nil }
	return batches.Reader(to, batches.Each(r, project), r.Release)
}

// open opens a new database.
func (j *eachJob) open() error {
	j.close()
	j.opened++
	limits := &database.Options{Memory: j.plan.Memory, MaxTemp: 1 << 50, Threads: min(runtime.GOMAXPROCS(0), max(1, int(j.plan.Memory/threadMemory)))}
	db, err := database.Open(limits, filepath.Join(j.files.dir, fmt.Sprintf("spill-%d", j.opened)))
	if err == nil {
		j.db = db
	}
	return err
}

func (j *eachJob) close() {
	if j.db != nil {
		j.db.Close()
	}
	j.db = nil
}

// job returns the job for the current part or, if there is none, for inputs without rows.
func (j *eachJob) job() *database.Job {
	job := &database.Job{SQL: j.sql, Memory: j.plan.Memory, Paths: []string{j.files.emptyPath}}
	for _, t := range j.tables {
		for _, f := range t.files {
			job.Paths = append(job.Paths, f.Path)
		}
		job.Tables = append(job.Tables, t.qualifiedSchema()+"."+sqltext.Name(t.name))
		job.Views = append(job.Views, t.view())
	}
	return job
}
