package cli

import (
	"context"
	"iter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/transform"
)

// backend is what commands work with: a directory's store, or a server.
type backend interface {
	Buckets(context.Context) iter.Seq2[string, error]
	Tables(ctx context.Context, bucket string, f *tables.Filter) iter.Seq2[tables.TableInfo, error]
	Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error)
	Versions(ctx context.Context, bucket, name string) ([]tables.VersionInfo, error)
	Settings(ctx context.Context, bucket, name string) (tables.Settings, error)
	SetSettings(ctx context.Context, bucket, name string, s tables.Settings) error
	Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error)
	Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error)
	Query(ctx context.Context, sql string, o *tables.QueryOptions) (array.RecordReader, error)
	Evolve(ctx context.Context, bucket, name string, changes ...tables.ColumnChange) error
	SetEvolution(ctx context.Context, bucket, name string, e tables.Evolution) error
	Rules(ctx context.Context, bucket, name string) ([]tables.Rule, error)
	EditRules(ctx context.Context, bucket, name string, e tables.RuleEdit) error
	Delete(ctx context.Context, bucket string, names ...string) error
	DeleteRows(ctx context.Context, bucket, name string, where *filter.Expr) (tables.Rewritten, error)
	ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error)
	Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error)
	Partition(ctx context.Context, bucket, name string, by tables.Partition) (tables.Partitioned, error)
	Fold(context.Context, *tables.MaintainOptions) (tables.MaintainResult, error)
	Compact(context.Context, *tables.MaintainOptions) (tables.MaintainResult, error)
	Expire(context.Context, *tables.MaintainOptions) (tables.MaintainResult, error)
	Metadata(ctx context.Context, bucket string) (tables.Metadata, error)
	ChangeMetadata(ctx context.Context, bucket, name string, c tables.MetadataChange) error
	Snapshot(ctx context.Context, bucket, name string) (string, error)
	Snapshots(ctx context.Context, bucket string) ([]tables.SnapshotInfo, error)
	DeleteSnapshot(ctx context.Context, bucket, name string) error
	DeleteSnapshots(ctx context.Context, bucket string) error
	Restore(ctx context.Context, bucket, snapshot string, names ...string) error
	Resample(context.Context, *transform.ResampleOptions) (transform.Result, error)
	Combine(context.Context, *transform.CombineOptions) (transform.Result, error)
	Clean(context.Context, *transform.CleanOptions) (transform.Result, error)
}

var (
	_ backend = (*flightclient.Client)(nil)
	_ backend = (*local)(nil)
)

// local is a directory's store, whose methods of the same names it has.
type local struct{ *tables.Store }

func (l *local) Tables(ctx context.Context, bucket string, f *tables.Filter) iter.Seq2[tables.TableInfo, error] {
	return l.Bucket(bucket).Tables(ctx, f)
}

func (l *local) Describe(ctx context.Context, bucket, name string, at tables.At) (info tables.TableInfo, _ *arrow.Schema, _ error) {
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

func (l *local) Versions(ctx context.Context, bucket, name string) ([]tables.VersionInfo, error) {
	t, err := l.Bucket(bucket).Table(ctx, name)
	if err != nil {
		return nil, err
	}
	return t.Versions(ctx)
}

func (l *local) Settings(ctx context.Context, bucket, name string) (tables.Settings, error) {
	t, err := l.Bucket(bucket).Table(ctx, name)
	if err != nil {
		return tables.Settings{}, err
	}
	return t.Settings(ctx)
}

func (l *local) SetSettings(ctx context.Context, bucket, name string, s tables.Settings) error {
	return l.Bucket(bucket).SetSettings(ctx, name, s)
}

func (l *local) Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error) {
	return l.Bucket(bucket).Put(ctx, name, r, m, o)
}

func (l *local) Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error) {
	t, err := l.Bucket(bucket).Table(ctx, name, at)
	if err != nil {
		return nil, err
	}
	return t.Scan(ctx, o)
}

func (l *local) Evolve(ctx context.Context, bucket, name string, changes ...tables.ColumnChange) error {
	return l.Bucket(bucket).Evolve(ctx, name, changes...)
}

func (l *local) SetEvolution(ctx context.Context, bucket, name string, e tables.Evolution) error {
	return l.Bucket(bucket).SetEvolution(ctx, name, e)
}

func (l *local) Rules(ctx context.Context, bucket, name string) ([]tables.Rule, error) {
	return l.Bucket(bucket).Rules(ctx, name)
}

func (l *local) EditRules(ctx context.Context, bucket, name string, e tables.RuleEdit) error {
	return l.Bucket(bucket).EditRules(ctx, name, e)
}

func (l *local) Delete(ctx context.Context, bucket string, names ...string) error {
	return l.Bucket(bucket).Delete(ctx, names...)
}

func (l *local) DeleteRows(ctx context.Context, bucket, name string, where *filter.Expr) (tables.Rewritten, error) {
	return l.Bucket(bucket).DeleteRows(ctx, name, where)
}

func (l *local) ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).ReplaceRange(ctx, name, from, to, r, o)
}

func (l *local) Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).Upsert(ctx, name, r, o)
}

func (l *local) Partition(ctx context.Context, bucket, name string, by tables.Partition) (tables.Partitioned, error) {
	return l.Bucket(bucket).Partition(ctx, name, by)
}

func (l *local) Metadata(ctx context.Context, bucket string) (tables.Metadata, error) {
	return l.Bucket(bucket).Metadata(ctx)
}

func (l *local) ChangeMetadata(ctx context.Context, bucket, name string, c tables.MetadataChange) error {
	return l.Bucket(bucket).ChangeMetadata(ctx, name, c)
}

func (l *local) Snapshot(ctx context.Context, bucket, name string) (string, error) {
	return l.Bucket(bucket).Snapshot(ctx, name)
}

func (l *local) Snapshots(ctx context.Context, bucket string) ([]tables.SnapshotInfo, error) {
	return l.Bucket(bucket).Snapshots(ctx)
}

func (l *local) DeleteSnapshot(ctx context.Context, bucket, name string) error {
	return l.Bucket(bucket).DeleteSnapshot(ctx, name)
}

func (l *local) DeleteSnapshots(ctx context.Context, bucket string) error {
	return l.Bucket(bucket).DeleteSnapshots(ctx)
}

func (l *local) Restore(ctx context.Context, bucket, snapshot string, names ...string) error {
	return l.Bucket(bucket).Restore(ctx, snapshot, names...)
}

func (l *local) Resample(ctx context.Context, o *transform.ResampleOptions) (transform.Result, error) {
	return transform.Resample(ctx, l.Store, o)
}

func (l *local) Combine(ctx context.Context, o *transform.CombineOptions) (transform.Result, error) {
	return transform.Combine(ctx, l.Store, o)
}

func (l *local) Clean(ctx context.Context, o *transform.CleanOptions) (transform.Result, error) {
	return transform.Clean(ctx, l.Store, o)
}
