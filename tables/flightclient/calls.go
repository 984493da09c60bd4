package flightclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/wire"
	"github.com/go-partd/partd/tables/transform"
)

// results yields what an action answers.
func results[T any](ctx context.Context, c *Client, action string, body any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var none T
		b, err := json.Marshal(body)
		if err != nil {
			yield(none, err)
			return
		}
		stream, err := c.flight.DoAction(ctx, &flight.Action{Type: action, Body: b})
		if err != nil {
			yield(none, c.fail(err)) // nothing was sent
			return
		}
		for err == nil {
			var r *flight.Result
			if r, err = stream.Recv(); err != nil {
				break
			}
			var v T
			if err = json.Unmarshal(r.Body, &v); err != nil {
				err = fmt.Errorf("%s: the answer to %s: %w", c.url, action, err)
			} else if !yield(v, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(none, err)
		}
	}
}

// result is results where there is one.
func result[T any](ctx context.Context, c *Client, action string, body any) (T, error) {
	for v, err := range results[T](ctx, c, action, body) {
		return v, err
	}
	var none T
	return none, fmt.Errorf("%s: no answer to %s", c.url, action)
}

func failing[T any](c *Client, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range all {
			if !yield(v, c.fail(err)) {
				return
			}
		}
	}
}

// Buckets yields the names of the buckets.
func (c *Client) Buckets(ctx context.Context) iter.Seq2[string, error] {
	return failing(c, results[string](ctx, c, wire.Buckets, struct{}{}))
}

// Tables yields the tables of a bucket that f selects.
func (c *Client) Tables(ctx context.Context, bucket string, f *tables.Filter) iter.Seq2[tables.TableInfo, error] {
	if f == nil {
		f = &tables.Filter{}
	}
	return failing(c, results[tables.TableInfo](ctx, c, wire.Tables, wire.List{Bucket: bucket, Filter: *f}))
}

// Describe returns what is known of a table as it is, or at a version or snapshot,
// and its columns.
func (c *Client) Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error) {
	state, err := wire.StateOf(at)
	if err != nil {
		return tables.TableInfo{}, nil, err
	}
	d, err := result[wire.Description](ctx, c, wire.Describe, wire.Table{Bucket: bucket, Name: name, State: state})
	if err != nil {
		return tables.TableInfo{}, nil, c.fail(err)
	}
	schema, err := flight.DeserializeSchema(d.Schema, memory.DefaultAllocator)
	return d.Info, schema, err
}

// Versions returns a table's versions, oldest first.
func (c *Client) Versions(ctx context.Context, bucket, name string) ([]tables.VersionInfo, error) {
	all, err := result[[]tables.VersionInfo](ctx, c, wire.Versions, wire.Table{Bucket: bucket, Name: name})
	return all, c.fail(err)
}

// Delete deletes tables in one commit: all, or none if one of them is missing.
func (c *Client) Delete(ctx context.Context, bucket string, names ...string) error {
	_, err := result[struct{}](ctx, c, wire.Delete, wire.Names{Bucket: bucket, Names: names})
	return c.changed(err)
}

func change[T any](ctx context.Context, c *Client, action string, body any) (T, error) {
	v, err := result[T](ctx, c, action, body)
	return v, c.changed(err)
}

// Fold is Store.Fold.
func (c *Client) Fold(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return change[tables.MaintainResult](ctx, c, wire.Fold, o)
}

// Compact is Store.Compact.
func (c *Client) Compact(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return change[tables.MaintainResult](ctx, c, wire.Compact, o)
}

// Expire is Store.Expire.
func (c *Client) Expire(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return change[tables.MaintainResult](ctx, c, wire.Expire, o)
}

// Metadata is Bucket.Metadata.
func (c *Client) Metadata(ctx context.Context, bucket string) (tables.Metadata, error) {
	m, err := result[tables.Metadata](ctx, c, wire.BucketMetadata, wire.Metadata{Bucket: bucket})
	return m, c.fail(err)
}

// ChangeMetadata is Bucket.ChangeMetadata.
func (c *Client) ChangeMetadata(ctx context.Context, bucket, name string, m tables.MetadataChange) error {
	_, err := change[struct{}](ctx, c, wire.ChangeMetadata, wire.Metadata{Bucket: bucket, Name: name, MetadataChange: m})
	return err
}

// Snapshot is Bucket.Snapshot.
func (c *Client) Snapshot(ctx context.Context, bucket, name string) (string, error) {
	made, err := change[wire.Snapshot](ctx, c, wire.TakeSnapshot, wire.Snapshot{Bucket: bucket, Name: name})
	return made.Name, err
}

// Snapshots is Bucket.Snapshots.
func (c *Client) Snapshots(ctx context.Context, bucket string) ([]tables.SnapshotInfo, error) {
	all, err := result[[]tables.SnapshotInfo](ctx, c, wire.Snapshots, wire.Snapshot{Bucket: bucket})
	return all, c.fail(err)
}

// DeleteSnapshot is Bucket.DeleteSnapshot.
func (c *Client) DeleteSnapshot(ctx context.Context, bucket, name string) error {
	_, err := change[struct{}](ctx, c, wire.DeleteSnapshots, wire.Snapshot{Bucket: bucket, Name: name})
	return err
}

// DeleteSnapshots is Bucket.DeleteSnapshots.
func (c *Client) DeleteSnapshots(ctx context.Context, bucket string) error {
	_, err := change[struct{}](ctx, c, wire.DeleteSnapshots, wire.Snapshot{Bucket: bucket, All: true})
	return err
}

// Restore is Bucket.Restore.
func (c *Client) Restore(ctx context.Context, bucket, snapshot string, names ...string) error {
	_, err := change[struct{}](ctx, c, wire.Restore, wire.Snapshot{Bucket: bucket, Name: snapshot, Tables: names})
	return err
}

// Resample is transform.Resample.
func (c *Client) Resample(ctx context.Context, o *transform.ResampleOptions) (transform.Result, error) {
	return change[transform.Result](ctx, c, wire.Resample, o)
}

// Combine is transform.Combine.
func (c *Client) Combine(ctx context.Context, o *transform.CombineOptions) (transform.Result, error) {
	return change[transform.Result](ctx, c, wire.Combine, o)
}

// Clean is transform.Clean.
func (c *Client) Clean(ctx context.Context, o *transform.CleanOptions) (transform.Result, error) {
	return change[transform.Result](ctx, c, wire.Clean, o)
}

// DeleteRows is Bucket.DeleteRows.
func (c *Client) DeleteRows(ctx context.Context, bucket, name string, where *filter.Expr) (tables.Rewritten, error) {
	done, err := change[wire.PutDone](ctx, c, wire.DeleteRows, wire.Deletion{Bucket: bucket, Name: name, Where: where.String()})
	return done.Rewritten(), err
}

// Partition is Bucket.Partition.
func (c *Client) Partition(ctx context.Context, bucket, name string, by tables.Partition) (tables.Partitioned, error) {
	done, err := change[wire.Partitioned](ctx, c, wire.Partition, wire.Periods{Bucket: bucket, Name: name, By: by})
	return tables.Partitioned(done), err
}

// Evolve changes a table's columns, as Bucket.Evolve.
func (c *Client) Evolve(ctx context.Context, bucket, name string, changes ...tables.ColumnChange) error {
	_, err := change[struct{}](ctx, c, wire.Evolve, wire.Evolution{Bucket: bucket, Name: name, Changes: changes})
	return err
}

// SetEvolution is Bucket.SetEvolution.
func (c *Client) SetEvolution(ctx context.Context, bucket, name string, e tables.Evolution) error {
	_, err := change[struct{}](ctx, c, wire.Evolve, wire.Evolution{Bucket: bucket, Name: name, Mode: &e})
	return err
}

// Rules returns the rules of a table, or those of the bucket itself for "".
func (c *Client) Rules(ctx context.Context, bucket, name string) ([]tables.Rule, error) {
	rules, err := result[[]tables.Rule](ctx, c, wire.Rules, wire.Table{Bucket: bucket, Name: name})
	return rules, c.fail(err)
}

// EditRules changes them, as Bucket.EditRules.
func (c *Client) EditRules(ctx context.Context, bucket, name string, e tables.RuleEdit) error {
	_, err := change[struct{}](ctx, c, wire.EditRules, wire.RuleEdit{Bucket: bucket, Name: name, RuleEdit: e})
	return err
}
