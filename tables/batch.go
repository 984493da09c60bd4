package tables

import (
	"context"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/parallel"
)

// TablePut is one put of many.
type TablePut struct {
	Name    string
	Rows    array.RecordReader // not released by the put
	Mode    PutMode
	Options *PutOptions
}

// PutAll makes puts, some at a time; 0 workers are 4. It takes the next one only once
// there is a worker for it, so that it holds no more than these. Each put is whole
// or not at all, by itself: with an error, those done stay. Update makes one commit
// of several.
func (b *Bucket) PutAll(ctx context.Context, puts iter.Seq[TablePut], workers int) error {
	return parallel.Each(ctx, puts, workers, func(ctx context.Context, p TablePut) error {
		_, err := b.Put(ctx, p.Name, p.Rows, p.Mode, p.Options)
		return err
	})
}

// ScanAll scans tables, some at a time; 0 workers are 4. It calls f with the rows of
// each, at the same time for several. The reader ends with f. The first error ends
// all.
func (b *Bucket) ScanAll(ctx context.Context, names []string, o *ScanOptions, workers int, f func(name string, r array.RecordReader) error) error {
	return parallel.Each(ctx, slices.Values(names), workers, func(ctx context.Context, name string) error {
		t, err := b.Table(ctx, name)
		if err != nil {
			return err
		}
		r, err := t.Scan(ctx, o)
		if err != nil {
			return err
		}
		defer r.Release()
		return f(name, r)
	})
}
