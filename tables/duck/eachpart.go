//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// errStopped means that the caller of Each stopped the iteration, so Each must yield nothing more.
var errStopped = errors.New("stopped")

// Each divides the rows of inputs into parts by their keys, the values of the columns By. All rows with equal keys, of
// all inputs, are in the same part. Each runs a SELECT statement once for each part, and yields the result; a result is
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

// eachPart is a part of the rows, in files.
type eachPart struct {
	*parted.Part
	files   []*scratchFile // of the inputs; nil for an input without rows
	release func()         // ends Keep of the part
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

// parts yields the parts with which divide calls a function. The consumer must remove them. Because parts runs ahead of
// the consumer, in a goroutine, it uses neither db nor opened nor the files of the tables.
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
