package flightclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/transform"
)

// Do runs an action on the server. It sends input as JSON and yields the results as JSON. docs/dev/tables-wire.md lists
// the actions.
func (c *Client) Do(ctx context.Context, action string, input any) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		body, err := json.Marshal(input)
		if err != nil {
			yield(nil, err)
			return
		}
		conn, err := c.conn()
		if err != nil {
			yield(nil, err)
			return
		}
		stream, err := conn.DoAction(ctx, &flight.Action{Type: action, Body: body})
		if err != nil {
			yield(nil, c.convertError(ctx, err)) // not changeError, because the input was not sent
			return
		}
		o := operations.ByAction(action)
		for {
			r, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err == nil:
			case o != nil && (!o.Writes || o.Slots == operations.CopySlot): // repeating a copy is safe
				err = c.convertError(ctx, err)
			default:
				err = c.changeError(ctx, err)
			}
			if !yield(r.GetBody(), err) || err != nil {
				return
			}
		}
	}
}

func (c *Client) target() operations.Target { return operations.Target{Server: c} }

// Buckets yields the names of all buckets.
func (c *Client) Buckets(ctx context.Context) iter.Seq2[string, error] {
	return operations.Buckets.Each(ctx, c.target(), &operations.None{})
}

// Tables yields the tables of a bucket that match f.
func (c *Client) Tables(ctx context.Context, bucket string, f *tables.Filter) iter.Seq2[tables.TableInfo, error] {
	f = cmp.Or(f, new(tables.Filter))
	return operations.Tables.Each(ctx, c.target(), &operations.List{Bucket: bucket, Filter: *f})
}

// Describe returns the properties and the columns of a table in its current state, or at a version, snapshot or time.
func (c *Client) Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error) {
	d, err := operations.Describe.Do(ctx, c.target(), &operations.Table{Bucket: bucket, Name: name, State: operations.StateOf(at)})
	if err != nil {
		return tables.TableInfo{}, nil, err
	}
	schema, err := flight.DeserializeSchema(d.Schema, memory.DefaultAllocator)
	return d.Info, schema, err
}

// Versions returns the versions of a table, oldest first.
func (c *Client) Versions(ctx context.Context, bucket, name string) ([]tables.VersionInfo, error) {
	return operations.Versions.Do(ctx, c.target(), &operations.Table{Bucket: bucket, Name: name})
}

// Settings returns the settings of a table.
func (c *Client) Settings(ctx context.Context, bucket, name string) (tables.Settings, error) {
	return operations.Settings.Do(ctx, c.target(), &operations.Table{Bucket: bucket, Name: name})
}

// SetSettings calls Table.SetSettings on the server, to change the settings of a table.
func (c *Client) SetSettings(ctx context.Context, bucket, name string, s tables.Settings, only ...string) error {
	return operations.SetSettings.Change(ctx, c.target(), &operations.TableSettings{Bucket: bucket, Name: name, Settings: s, Only: only})
}

// Delete deletes tables in one commit. If one of the tables does not exist, Delete deletes none.
func (c *Client) Delete(ctx context.Context, bucket string, names ...string) error {
	return operations.Delete.Change(ctx, c.target(), &operations.Names{Bucket: bucket, Names: names})
}

// Fold calls Store.Fold on the server.
func (c *Client) Fold(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return operations.Fold.Do(ctx, c.target(), o)
}

// Compact calls Store.Compact on the server.
func (c *Client) Compact(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return operations.Compact.Do(ctx, c.target(), o)
}

// Expire calls Store.Expire on the server.
func (c *Client) Expire(ctx context.Context, o *tables.MaintainOptions) (tables.MaintainResult, error) {
	return operations.Expire.Do(ctx, c.target(), o)
}

// Metadata calls Bucket.Metadata on the server.
func (c *Client) Metadata(ctx context.Context, bucket string) (tables.Metadata, error) {
	return operations.BucketMetadata.Do(ctx, c.target(), &operations.Bucket{Bucket: bucket})
}

// ChangeMetadata calls Table.ChangeMetadata or, if name is "", Bucket.ChangeMetadata on the server.
func (c *Client) ChangeMetadata(ctx context.Context, bucket, name string, m tables.MetadataChange) error {
	return operations.ChangeMetadata.Change(ctx, c.target(), &operations.Metadata{Bucket: bucket, Name: name, MetadataChange: m})
}

// Snapshot calls Bucket.Snapshot on the server.
func (c *Client) Snapshot(ctx context.Context, bucket, name string) (string, error) {
	snapshot, err := operations.TakeSnapshot.Do(ctx, c.target(), &operations.Snapshot{Bucket: bucket, Name: name})
	return snapshot.Name, err
}

// Snapshots calls Bucket.Snapshots on the server.
func (c *Client) Snapshots(ctx context.Context, bucket string) ([]tables.SnapshotInfo, error) {
	return operations.Snapshots.Do(ctx, c.target(), &operations.Bucket{Bucket: bucket})
}

// DeleteSnapshot calls Bucket.DeleteSnapshot on the server.
func (c *Client) DeleteSnapshot(ctx context.Context, bucket, name string) error {
	return operations.DeleteSnapshots.Change(ctx, c.target(), &operations.Snapshot{Bucket: bucket, Name: name})
}

// DeleteSnapshots calls Bucket.DeleteSnapshots on the server.
func (c *Client) DeleteSnapshots(ctx context.Context, bucket string) error {
	return operations.DeleteSnapshots.Change(ctx, c.target(), &operations.Snapshot{Bucket: bucket, All: true})
}

// Restore calls Bucket.Restore on the server.
func (c *Client) Restore(ctx context.Context, bucket, snapshot string, names ...string) error {
	return operations.Restore.Change(ctx, c.target(), &operations.Snapshot{Bucket: bucket, Name: snapshot, Tables: names})
}

// Resample calls transform.Resample on the server.
func (c *Client) Resample(ctx context.Context, o *transform.ResampleOptions) (transform.Result, error) {
	return operations.Resample.Do(ctx, c.target(), o)
}

// Combine calls transform.Combine on the server.
func (c *Client) Combine(ctx context.Context, o *transform.CombineOptions) (transform.Result, error) {
	return operations.Combine.Do(ctx, c.target(), o)
}

// Clean calls transform.Clean on the server.
func (c *Client) Clean(ctx context.Context, o *transform.CleanOptions) (transform.Result, error) {
	return operations.Clean.Do(ctx, c.target(), o)
}

// Exec calls Store.Exec on the server. Only the options Bucket, Parameters, ID and DryRun are supported. Parameters
// must fit in a message of 2 MiB.
func (c *Client) Exec(ctx context.Context, sql string, o *tables.ExecOptions) (_ tables.ExecResult, err error) {
	o = cmp.Or(o, new(tables.ExecOptions))
	if o.Memory != 0 {
		return tables.ExecResult{}, fmt.Errorf("%w: option Memory applies only to local statements: leave it zero for a statement on a server", errors.ErrUnsupported)
	}
	in := &operations.Statement{Bucket: o.Bucket, SQL: sql, ID: o.ID, DryRun: o.DryRun}
	in.Parameters, err = operations.EncodeParameters(o.Parameters)
	if err != nil {
		return tables.ExecResult{}, err
	}
	return operations.Exec.Do(ctx, c.target(), in)
}

// DeleteRows calls Table.DeleteRows on the server.
func (c *Client) DeleteRows(ctx context.Context, bucket, name string, where *filter.Expr) (tables.RewriteResult, error) {
	return operations.DeleteRows.Do(ctx, c.target(), &operations.Deletion{Bucket: bucket, Name: name, Where: where.String()})
}

// Partition calls Table.Partition on the server.
func (c *Client) Partition(ctx context.Context, bucket, name string, by tables.Partition) (tables.PartitionResult, error) {
	return operations.Partition.Do(ctx, c.target(), &operations.Periods{Bucket: bucket, Name: name, By: by})
}

// Evolve calls Table.Evolve on the server, to change the columns of a table.
func (c *Client) Evolve(ctx context.Context, bucket, name string, changes ...tables.ColumnChange) error {
	return operations.Evolve.Change(ctx, c.target(), &operations.Evolution{Bucket: bucket, Name: name, Changes: changes})
}

// SetEvolution calls Table.SetEvolution on the server.
func (c *Client) SetEvolution(ctx context.Context, bucket, name string, e tables.Evolution) error {
	return operations.Evolve.Change(ctx, c.target(), &operations.Evolution{Bucket: bucket, Name: name, Mode: &e})
}

// Rules returns the rules of a table or, if name is "", the bucket's own rules.
func (c *Client) Rules(ctx context.Context, bucket, name string) ([]tables.Rule, error) {
	return operations.Rules.Do(ctx, c.target(), &operations.Table{Bucket: bucket, Name: name})
}

// EditRules calls Table.EditRules on the server, to change the rules of a table or, if name is "", the bucket's own
// rules.
func (c *Client) EditRules(ctx context.Context, bucket, name string, e tables.RuleEdit) error {
	return operations.EditRules.Change(ctx, c.target(), &operations.RuleEdit{Bucket: bucket, Name: name, RuleEdit: e})
}

// Lock is a named lock on the server. The client keeps renewing the lock until Unlock is called.
type Lock struct {
	c           *Client
	id          string
	once        sync.Once
	stopRenewal context.CancelFunc
	renewalDone chan struct{}
	lost        chan struct{}
}

// Lock calls Table.Lock on the server. The lock is a lease: if this process dies or loses its connection, other clients
// can take the lock half a minute later.
func (c *Client) Lock(ctx context.Context, bucket, name string) (*Lock, error) {
	lease, err := operations.TakeLock.Do(ctx, c.target(), &operations.Lock{Bucket: bucket, Name: name})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Lock{c: c, id: lease.Lease, stopRenewal: stop, renewalDone: make(chan struct{}), lost: make(chan struct{})}
	go l.renew(ctx, time.Duration(lease.Seconds*float64(time.Second)))
	return l, nil
}

// Lost returns a channel that is closed if the lock could not be renewed in time. Another client may then hold the
// lock.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// renew renews the lease until ctx is done. It closes l.lost if the lease has ended or cannot be renewed in time.
func (l *Lock) renew(ctx context.Context, ttl time.Duration) {
	defer close(l.renewalDone)
	deadline := time.Now().Add(ttl)
	for canceled.Wait(ctx, time.After(ttl/3)) == nil {
		start := time.Now()
		callCtx, cancel := context.WithDeadline(ctx, deadline)
		_, err := operations.TakeLock.Do(callCtx, l.c.target(), &operations.Lock{Lease: l.id})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			deadline = start.Add(ttl)
		case errors.Is(err, tables.ErrNotFound), !time.Now().Add(ttl / 3).Before(deadline):
			close(l.lost)
			return
		}
	}
}

// Unlock releases the lock. Further calls do nothing.
func (l *Lock) Unlock(ctx context.Context) (err error) {
	if l == nil {
		return nil
	}
	l.once.Do(func() {
		l.stopRenewal()
		<-l.renewalDone
		err = operations.Unlock.Change(ctx, l.c.target(), &operations.Lock{Lease: l.id})
	})
	return err
}
