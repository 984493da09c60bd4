package cli

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/transform"
)

// backend is an open store, or a connection to a server.
type backend struct {
	operations.Target
	streams
}

// streams contains the operations that transfer rows or a schema; all other operations are in package operations. For a
// server, flightclient.Client implements streams.
type streams interface {
	Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error)
	Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error)
	Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error)
	Changes(ctx context.Context, bucket, name string, at, since tables.At, o *tables.ChangesOptions) (*tables.Changes, error)
	Query(ctx context.Context, sql string, o *tables.QueryOptions) (array.RecordReader, error)
	Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error)
	ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.RewriteResult, error)
	Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.RewriteResult, error)
}

type localStreams struct{ *tables.Store }

func (l localStreams) Describe(ctx context.Context, bucket, name string, at tables.At) (info tables.TableInfo, _ *arrow.Schema, _ error) {
	t, err := l.Bucket(bucket).Table(name).At(ctx, at)
	if err != nil {
		return info, nil, err
	}
	info, err = t.Info(ctx)
	if err != nil {
		return info, nil, err
	}
	schema, err := t.Schema(ctx)
	return info, schema, err
}

func (l localStreams) Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error) {
	return l.Bucket(bucket).Table(name).Put(ctx, r, m, o)
}

func (l localStreams) Changes(ctx context.Context, bucket, name string, at, since tables.At, o *tables.ChangesOptions) (*tables.Changes, error) {
	t, err := l.Bucket(bucket).Table(name).At(ctx, at)
	if err != nil {
		return nil, err
	}
	return t.Changes(ctx, since, o)
}

func (l localStreams) Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error) {
	t, err := l.Bucket(bucket).Table(name).At(ctx, at)
	if err != nil {
		return nil, err
	}
	return t.Scan(ctx, o)
}

func (l localStreams) Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error) {
	return transform.Resampled(ctx, l.Store, o)
}

func (l localStreams) ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.RewriteResult, error) {
	return l.Bucket(bucket).Table(name).ReplaceRange(ctx, from, to, r, o)
}

func (l localStreams) Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.RewriteResult, error) {
	return l.Bucket(bucket).Table(name).Upsert(ctx, r, o)
}
