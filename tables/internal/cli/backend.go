package cli

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
	"github.com/go-partd/partd/tables/transform"
)

// backend is what commands work with: a directory's store, or a server.
type backend struct {
	operations.Target
	streams
}

// streams are what moves rows or columns, which no operation does. They are methods of
// flightclient.Client.
type streams interface {
	Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error)
	Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error)
	Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error)
	Query(ctx context.Context, sql string, o *tables.QueryOptions) (array.RecordReader, error)
	Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error)
	ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error)
	Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error)
}

// local has the streams of an open store.
type local struct{ *tables.Store }

func (l local) Describe(ctx context.Context, bucket, name string, at tables.At) (info tables.TableInfo, _ *arrow.Schema, _ error) {
	t, err := l.Bucket(bucket).Table(ctx, name, at)
	if err != nil {
		return info, nil, err
	}
	if info, err = t.Info(ctx); err != nil {
		return info, nil, err
	}
	schema, err := t.Schema(ctx)
	return info, schema, err
}

func (l local) Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error) {
	return l.Bucket(bucket).Put(ctx, name, r, m, o)
}

func (l local) Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error) {
	t, err := l.Bucket(bucket).Table(ctx, name, at)
	if err != nil {
		return nil, err
	}
	return t.Scan(ctx, o)
}

func (l local) Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error) {
	return transform.Resampled(ctx, l.Store, o)
}

func (l local) ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).ReplaceRange(ctx, name, from, to, r, o)
}

func (l local) Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).Upsert(ctx, name, r, o)
}

// does makes cmd do an operation: input makes what it takes of the arguments, and show
// writes its answer.
func does[In, Out any](cmd *cobra.Command, p place, o operations.Operation[In, Out], input func(args []string) (*In, error), show func(*In, Out) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := input(args)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		run := func(s backend) error {
			out, err := o.Do(ctx, s.Target, in)
			if err != nil {
				return err
			}
			return show(in, out)
		}
		if o.Slots == operations.BothSlots { // it queries
			return p.withSQL(ctx, run)
		}
		return p.with(ctx, false, run)
	}
	return cmd
}

// quiet shows nothing: the exit code says it all.
func quiet[In any](*In, operations.None) error { return nil }
