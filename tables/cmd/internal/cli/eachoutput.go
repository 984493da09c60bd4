package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// writeOne writes the results of all parts as one output. It returns the numbers of rows and parts.
func (e *eachCommand) writeOne(ctx context.Context) (rows int64, parts int, err error) {
	if e.sortColumns != nil { // check that the result can be sorted before reading the rows
		if _, err := e.plan(ctx); err != nil {
			return 0, 0, err
		}
	}
	inputs, o := e.options()
	r, err := joinResults(duck.Each(ctx, e.statement, inputs, o), &parts)
	if err != nil {
		return 0, 0, err
	}
	if e.sortColumns != nil {
		defer r.Release()
		r, err = bulk.Sort(ctx, r, e.sortOptions())
		if err != nil {
			return 0, 0, err
		}
	}
	written := &batches.Counted{RecordReader: r}
	err = e.out.write(ctx, written, nil)
	return written.Rows, parts, err
}

func (e *eachCommand) sortOptions() *bulk.SortOptions {
	return &bulk.SortOptions{By: e.sortColumns, Memory: e.sortMemory()}
}

// plan returns the plan of the statement. It returns an error if the statement is refused, or if its result cannot be
// sorted as requested.
func (e *eachCommand) plan(ctx context.Context) (*duck.EachPlan, error) {
	inputs, o := e.options()
	plan, err := duck.PlanEach(ctx, e.statement, inputs, o)
	if err != nil || e.sortColumns == nil {
		return plan, err
	}
	empty, err := array.NewRecordReader(plan.Result, nil)
	if err != nil {
		return nil, err
	}
	defer empty.Release()
	sorted, err := bulk.Sort(ctx, empty, e.sortOptions())
	if err != nil {
		return nil, err
	}
	sorted.Release()
	return plan, nil
}

// joinResults returns a reader of the rows of all results, which must have the same columns. It adds the number of
// results read to *parts.
func joinResults(results iter.Seq2[array.RecordReader, error], parts *int) (array.RecordReader, error) {
	next, stop := iter.Pull2(results)
	first, err, _ := next() // ok is true, because results yields at least one result or an error
	if err != nil {
		stop()
		return nil, err
	}
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		for r, ok := first, true; ok; {
			*parts++
			for b, err := range batches.Of(r) {
				if !yield(b, err) || err != nil {
					return
				}
			}
			r, err, ok = next()
			if ok && err != nil {
				yield(nil, err)
				return
			}
		}
	}
	return batches.Reader(first.Schema(), rows, stop), nil
}

// writeDir writes one file for each part or, without a statement, one file for each input of each part.
func (e *eachCommand) writeDir(ctx context.Context) (rows int64, parts int, err error) {
	if err := output.CheckDir(e.out.file); err != nil {
		return 0, 0, err
	}
	dir, err := output.CreateDir(e.out.file)
	if err != nil {
		return 0, 0, err
	}
	dir.Visible = true
	write := func(name string, r array.RecordReader) error {
		counted := &batches.Counted{RecordReader: r}
		err := e.writePart(dir, name, counted)
		rows += counted.Rows
		return err
	}
	if e.statement == "" {
		parts, err = e.eachPart(ctx, write)
	} else {
		inputs, o := e.options()
		parts, err = writeResults(duck.Each(ctx, e.statement, inputs, o), write)
	}
	if err != nil {
		return 0, 0, errors.Join(err, dir.Abort())
	}
	return rows, parts, dir.Commit()
}

// writeResults calls write for each result and returns the number of results.
func writeResults(results iter.Seq2[array.RecordReader, error], write func(name string, r array.RecordReader) error) (n int, err error) {
	for r, err := range results {
		if err != nil {
			return n, err
		}
		n++
		if err := write(fmt.Sprintf("part-%05d", n), r); err != nil {
			return n, err
		}
	}
	return n, nil
}

// eachPart calls write for each input of each part and returns the number of parts.
func (e *eachCommand) eachPart(ctx context.Context, write func(name string, r array.RecordReader) error) (parts int, err error) {
	var inputs []bulk.EachInput
	for i := range e.read {
		inputs = append(inputs, bulk.EachInput{Name: e.inputs[i].name, Rows: &e.read[i], By: e.inputs[i].by})
	}
	o := &bulk.EachOptions{Memory: e.memory.Bytes, Parts: e.parts}
	writeInputs := func(_ context.Context, part map[string]array.RecordReader) (array.RecordReader, error) {
		parts++
		for name, r := range part {
			if err := write(fmt.Sprintf("part-%05d/%s", parts, name), r); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	for _, err := range bulk.Each(ctx, inputs, o, writeInputs) {
		return parts, err // not nil: without results from writeInputs, Each yields only an error
	}
	return parts, nil
}

func (e *eachCommand) writePart(dir *output.Dir, name string, r array.RecordReader) error {
	f, err := dir.CreateAt(name + "." + e.out.chosenFormat.Name)
	if err != nil {
		return err
	}
	return errors.Join(e.out.writeRows(f, r, false), f.Close())
}
