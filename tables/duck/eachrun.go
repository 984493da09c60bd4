//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/sql/database"
)

type partFunc = func(context.Context, *parted.Part) error

// runParts runs the statement for the parts with which divide calls a function.
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

// runOrDivide runs the statement for a part, which it removes at the end. If the statement needs too much memory, it
// divides the part. Later parts of the same size are divided before they run.
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

// run runs the statement for a part, and yields its result. If waits is set, the result waits in a file until it is
// complete. Then run yields nothing if the statement needs too much memory.
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
	r := batches.Reader(columns, func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			if !yield(b, eachError(ctx, explainPart(p.Part, err))) {
				return
			}
		}
	}, end)
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

// start starts the statement for the current part and, if waits is set, writes its result to a file. The caller must call
// end after it has read the rows. If spills is set, the statement needs less memory, but more time.
func (j *eachJob) start(ctx context.Context, waits, spills bool) (columns *arrow.Schema, rows batches.Seq, end func(), err error) {
	// Use a new database: a database that has run a statement keeps memory for the next one, and more after each.
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
		file, err := batches.Spill(j.files.dir, rows)
		if err != nil {
			return nil, nil, nil, err
		}
		rows, end = file.Rows, file.Close
	}
	return columns, rows, end, nil
}
