//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

type partFunc = func(context.Context, *parted.Part) error

// runParts runs the statement for each part that divide passes to its function.
func (j *eachJob) runParts(ctx context.Context, divide func(context.Context, partFunc) error, yield func(array.RecordReader) bool) error {
	ahead, stop := context.WithCancel(ctx)
	defer stop()
	// Write the files of the next part while DuckDB reads those of this part.
	for p, err := range batches.Ahead(j.parts(ahead, divide), 1) {
		if err == nil {
			err = j.runOrDivide(ctx, p, func(r array.RecordReader) (isWanted bool) {
				defer func() {
					if !isWanted { // or yield panics
						stop() // because Ahead waits for its goroutine
					}
				}()
				return yield(r)
			})
		}
		if err != nil {
			stop()
			return err
		}
	}
	return nil
}

// runOrDivide runs the statement for a part and then removes the part. If the statement needs too much memory,
// runOrDivide divides the part. Later parts of the same size are divided before they run.
func (j *eachJob) runOrDivide(ctx context.Context, p *eachPart, yield func(array.RecordReader) bool) error {
	defer p.Release()
	canDivide := j.divides && p.CanDivide()
	if !canDivide || p.Bytes() <= j.partBytes.Load() {
		err := j.run(ctx, p, canDivide, yield)
		if !canDivide || !database.NeedsMemory(err) || ctx.Err() != nil {
			return err
		}
		j.partBytes.Store(p.Bytes() / 4)
	}
	j.close()
	p.removeFiles()
	divide := func(ctx context.Context, f partFunc) error { return p.Divide(ctx, j.partBytes.Load(), f) }
	return j.runParts(ctx, divide, yield)
}

// run runs the statement for a part and yields its result. If waits is set, the result waits in a file until it is
// complete, so run yields nothing if the statement needs too much memory.
func (j *eachJob) run(ctx context.Context, p *eachPart, waits bool, yield func(array.RecordReader) bool) error {
	for i, f := range p.files {
		j.tables[i].files = nil
		if f != nil {
			j.tables[i].files = []tables.PlannedFile{f.planned()}
		}
	}
	columns, rows, end, err := j.start(ctx, waits, false)
	// As in Engine.Query, a single thread that writes temporary files from the beginning needs less memory.
	if database.NeedsMemory(err) && ctx.Err() == nil {
		columns, rows, end, err = j.start(ctx, waits, true)
	}
	if err != nil {
		return explainPart(p.Part, err)
	}
	r := batches.Reader(columns, batches.MapError(rows, func(err error) error { return eachError(ctx, explainPart(p.Part, err)) }), end)
	defer r.Release()
	if !yield(r) {
		return errStopped
	}
	return r.Err()
}

// explainPart adds the size of a part to an error if the error means that the part needs too much memory.
func explainPart(p *parted.Part, err error) error {
	if !database.NeedsMemory(err) || p.Bytes() == 0 {
		return err
	}
	rows := int64(0)
	for _, in := range p.Inputs {
		rows += in.Rows
	}
	if p.OneKey {
		return fmt.Errorf("the rows of key %s are too large: %d rows, %d bytes: %w", p.Key, rows, p.Bytes(), err)
	}
	return fmt.Errorf("a part is too large, with %d rows, %d bytes: set a higher number of parts, omit the number, or use more memory: %w", rows, p.Bytes(), err)
}

// start starts the statement for the current part and, if waits is set, writes its result to a file. The caller must
// call end after it has read the rows. If spills is set, the statement needs less memory but more time.
func (j *eachJob) start(ctx context.Context, waits, spills bool) (columns *arrow.Schema, rows batches.Seq, end func(), err error) {
	// Use a new database: one that has run statements keeps memory, more after each statement.
	if err := j.open(); err != nil {
		return nil, nil, nil, err
	}
	job := j.job()
	if spills {
		job.Spills, job.Threads = true, 1
	}
	j.db.CancelWith(ctx)
	result, err := j.db.Start(ctx, job)
	if err != nil {
		j.db.Finish()
		return nil, nil, nil, err
	}
	columns, rows = result.Schema(), batches.Until(result.Next)
	end = func() {
		result.End()
		j.db.Finish()
	}
	if waits {
		defer j.close()
		defer end() // the function above
		file, err := batches.Spill(j.files.dir, rows, schema.Convert)
		if err != nil {
			return nil, nil, nil, err
		}
		rows, end = file.Rows, file.Close
	}
	return columns, rows, end, nil
}

// errStopped means that the caller of Each stopped the iteration, so Each must yield nothing more.
var errStopped = errors.New("stopped")

// Each divides the rows of inputs into parts by their keys, the values of the columns By. All rows with equal keys, of
// all inputs, are in the same part. Each runs a SELECT statement once for each part and yields the result, which is
// valid until the next one. Parts come in any order. If all inputs are empty, the statement runs once.
//
// Keys are equal if GROUP BY considers them equal: NULL equals NULL, NaN equals NaN, and -0 equals 0. Each must prove
// that the parts' results together have the same rows as the result of a single run for all rows. If it cannot, it
// returns an error that wraps [ErrNotPerKey].
func Each(ctx context.Context, sql string, inputs []EachInput, o *EachOptions) iter.Seq2[array.RecordReader, error] {
	return func(yield func(array.RecordReader, error) bool) {
		err := each(ctx, sql, inputs, cmp.Or(o, new(EachOptions)), func(r array.RecordReader) bool { return yield(r, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, eachError(ctx, err))
		}
	}
}

func eachError(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*tables.OpError](err); ok || err == nil { // the reader of a result has already wrapped err
		return err
	}
	return &tables.OpError{Op: "each", Err: explainInterrupt(ctx, err)}
}

// PlanEach returns how [Each] would run a statement, or the error with which Each would refuse it. It reads no rows.
func PlanEach(ctx context.Context, sql string, inputs []EachInput, o *EachOptions) (plan *EachPlan, err error) {
	err = withJob(ctx, sql, inputs, cmp.Or(o, new(EachOptions)), func(j *eachJob) error {
		plan = &j.plan
		return nil
	})
	return plan, eachError(ctx, err)
}

func each(ctx context.Context, sql string, inputs []EachInput, o *EachOptions, yield func(array.RecordReader) bool) error {
	return withJob(ctx, sql, inputs, o, func(j *eachJob) error {
		rows := make([]parted.Input, len(inputs))
		for i, in := range inputs {
			rows[i] = parted.Input{Name: in.Name, By: j.plan.Inputs[i].By, Rows: selectColumns(in.Rows, j.plan.Inputs[i].Columns)}
			defer rows[i].Rows.Release()
		}
		divide := func(ctx context.Context, f partFunc) error { return parted.Each(ctx, rows, j.options(o), f) }
		return j.runParts(ctx, divide, yield)
	})
}

// eachPart is a part whose rows are in files.
type eachPart struct {
	*parted.Part
	files   []*scratchFile // one for each input; nil for an input without rows
	release func()         // result of the part's Keep; does nothing if Keep was not called
}

func (p *eachPart) Release() {
	p.removeFiles()
	p.release()
}

func (p *eachPart) removeFiles() {
	for _, f := range p.files {
		if f != nil {
			f.remove()
		}
	}
}

// parts yields the parts that divide passes to its function. The consumer must release them. Because parts runs ahead
// of the consumer, in a goroutine, it uses neither db nor opened nor the files of the tables.
func (j *eachJob) parts(ctx context.Context, divide func(context.Context, partFunc) error) iter.Seq2[*eachPart, error] {
	return func(yield func(*eachPart, error) bool) {
		var write partFunc
		write = func(ctx context.Context, part *parted.Part) error {
			limit := j.partBytes.Load()
			if j.divides && part.CanDivide() && part.Bytes() > limit {
				return part.Divide(ctx, limit, write)
			}
			p, err := j.writePart(ctx, part)
			if err == nil && !yield(p, nil) {
				return errStopped
			}
			return err
		}
		err := divide(ctx, write)
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

// writePart writes the rows of a part to files.
func (j *eachJob) writePart(ctx context.Context, part *parted.Part) (*eachPart, error) {
	n := j.written.Add(1)
	p := &eachPart{Part: part, files: make([]*scratchFile, len(part.Inputs)), release: func() {}}
	if part.CanDivide() {
		p.release = part.Keep()
	}
	isWritten := false
	defer func() {
		if !isWritten { // after an error or a panic
			p.Release()
		}
	}()
	for i := range part.Inputs {
		in := &part.Inputs[i]
		if in.Rows == 0 {
			continue
		}
		f := &scratchFile{path: filepath.Join(j.files.dir, fmt.Sprintf("input-%d-%d.parquet", n, i))}
		p.files[i] = f
		err := f.writeBatches(ctx, j.types[i], in.Bytes/in.Rows, in.Read(ctx))
		if err == nil && f.rows != in.Rows {
			err = fmt.Errorf("temporary data of input %s: it has %d rows instead of %d", sqltext.Name(j.tables[i].name), f.rows, in.Rows)
		}
		if err != nil {
			return nil, err
		}
	}
	isWritten = true
	return p, nil
}
