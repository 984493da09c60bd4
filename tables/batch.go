package tables

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/parallel"
)

// TablePut describes one put of PutAll.
type TablePut struct {
	Name    string
	Rows    array.RecordReader // PutAll does not release Rows
	Mode    PutMode
	Options *PutOptions
}

// PutAll makes several puts, at most workers at a time; 0 means 4. It takes the next put from puts only when a worker is
// free. Each put is a separate commit: after an error, completed puts remain. To make several puts in one commit, use
// Update.
func (b *Bucket) PutAll(ctx context.Context, puts iter.Seq[TablePut], workers int) error {
	if puts == nil {
		return &OpError{Op: "put into", Bucket: b.Name(), Err: &ArgumentError{Err: errors.New("the sequence of puts is nil")}}
	}
	return parallel.Each(ctx, puts, workers, func(ctx context.Context, p TablePut) error {
		_, err := b.Put(ctx, p.Name, p.Rows, p.Mode, p.Options)
		return err
	})
}

// ScanAll scans several tables, at most workers at a time; 0 means 4. It calls f concurrently, once for each table, with
// the table's rows, and releases r when f returns. The first error stops all scans.
func (b *Bucket) ScanAll(ctx context.Context, names []string, o *ScanOptions, workers int, f func(name string, r array.RecordReader) error) error {
	if f == nil {
		return &OpError{Op: "scan", Bucket: b.Name(), Err: &ArgumentError{Err: errors.New("f, the function that receives the rows, is nil")}}
	}
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
