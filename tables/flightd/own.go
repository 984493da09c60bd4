package flightd

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/wire"
	"github.com/go-partd/partd/tables/transform"
)

// ownServer serves package flightclient, which can all that a Store can.
type ownServer struct {
	store  *tables.Store
	leases leases
}

func parse(b []byte, v any) error {
	if err := wire.Unmarshal(b, v); err != nil {
		return status.Errorf(codes.InvalidArgument, "the call: %v", err)
	}
	return nil
}

func (s *ownServer) table(ctx context.Context, t wire.Table) (*tables.Table, error) {
	return s.store.Bucket(t.Bucket).Table(ctx, t.Name, t.At())
}

// scan answers a ticket for which wire.Is(wire.ScanCall).
func (s *ownServer) scan(ticket []byte, stream flight.FlightService_DoGetServer) (err error) {
	defer func() { err = sqlError(err) }()
	ctx := stream.Context()
	var c wire.Scan
	if err := parse(ticket, &c); err != nil {
		return err
	}
	end, err := acquireQuery(ctx)
	if err != nil {
		return err
	}
	defer end()
	o := &tables.ScanOptions{Columns: c.Columns, Limit: c.Limit, Last: c.Last, From: c.From, To: c.To, TimeColumn: c.TimeColumn, Part: c.Part, Dictionaries: c.Dictionaries}
	if c.Where != "" {
		if o.Filter, err = filter.Parse(c.Where); err != nil {
			return err
		}
	}
	table, err := s.table(ctx, c.Table)
	if err != nil {
		return err
	}
	r, err := table.Scan(ctx, o)
	if err != nil {
		return err
	}
	defer r.Release()
	if err := sendRows(stream, r); err != nil {
		return err
	}
	return r.Err()
}

// put answers a stream whose command wire.Is(wire.PutCall).
func (s *ownServer) put(command []byte, stream flight.FlightService_DoPutServer, memory memory.Allocator) (err error) {
	defer func() { err = sqlError(err) }()
	ctx := stream.Context()
	var c wire.Put
	if err := parse(command, &c); err != nil {
		return err
	}
	r, err := flightReader(stream, memory)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "the rows cannot be read: %v", err)
	}
	defer r.Release()
	in, err := newUpload(ctx, r)
	if err != nil {
		return err
	}
	var done tables.Rewritten
	switch b := s.store.Bucket(c.Bucket); {
	case c.Range != nil:
		done, err = b.ReplaceRange(ctx, c.Name, c.Range.From, c.Range.To, in, &tables.RangeOptions{TimeColumn: c.Range.TimeColumn})
	case c.Upsert != nil:
		done, err = b.Upsert(ctx, c.Name, in, &tables.UpsertOptions{Keys: c.Upsert.Keys})
	default:
		done.Version, err = b.Put(ctx, c.Name, in, c.Mode, &tables.PutOptions{ID: c.ID, Metadata: c.Metadata, Settings: c.Settings})
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(wire.Done(done))
	if err != nil {
		return err
	}
	return stream.Send(&flight.PutResult{AppMetadata: body})
}

// ownActions are the actions of wire, by their types. What they answer goes
// through send.
var ownActions = map[string]func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error{
	wire.Buckets: func(s *ownServer, ctx context.Context, _ []byte, send func(any) error) error {
		return sendAll(s.store.Buckets(ctx), send)
	},
	wire.Tables: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		var c wire.List
		if err := parse(body, &c); err != nil {
			return err
		}
		return sendAll(s.store.Bucket(c.Bucket).Tables(ctx, &c.Filter), send)
	},
	wire.Describe: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		return s.withTable(ctx, body, func(t *tables.Table) error {
			info, err := t.Info(ctx)
			if err != nil {
				return err
			}
			schema, err := t.Schema(ctx)
			if err != nil {
				return err
			}
			parts, err := t.Parts(ctx)
			if err != nil {
				return err
			}
			return send(wire.Description{Info: info, Schema: flight.SerializeSchema(schema, memory.DefaultAllocator), Parts: parts})
		})
	},
	wire.Versions: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		return s.withTable(ctx, body, func(t *tables.Table) error {
			all, err := t.Versions(ctx)
			if err != nil {
				return err
			}
			return send(all)
		})
	},
	wire.Settings: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		return s.withTable(ctx, body, func(t *tables.Table) error {
			settings, err := t.Settings(ctx)
			if err != nil {
				return err
			}
			return send(settings)
		})
	},
	wire.SetSettings: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.TableSettings) (struct{}, error) {
		return struct{}{}, s.Bucket(c.Bucket).SetSettings(ctx, c.Name, c.Settings)
	}),
	wire.Rules: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		var c wire.Table
		if err := parse(body, &c); err != nil {
			return err
		}
		rules, err := s.store.Bucket(c.Bucket).Rules(ctx, c.Name)
		if err != nil {
			return err
		}
		return send(append([]tables.Rule{}, rules...))
	},
	wire.EditRules: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.RuleEdit) (struct{}, error) {
		return struct{}{}, s.Bucket(c.Bucket).EditRules(ctx, c.Name, c.RuleEdit)
	}),
	wire.Evolve: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Evolution) (none struct{}, err error) {
		if c.Mode != nil {
			err = s.Bucket(c.Bucket).SetEvolution(ctx, c.Name, *c.Mode)
		}
		if err == nil {
			err = s.Bucket(c.Bucket).Evolve(ctx, c.Name, c.Changes...)
		}
		return none, err
	}),
	wire.Delete: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Names) (struct{}, error) {
		return struct{}{}, s.Bucket(c.Bucket).Delete(ctx, c.Names...)
	}),
	wire.Fold: changes(acquirePut, func(ctx context.Context, s *tables.Store, o *tables.MaintainOptions) (tables.MaintainResult, error) {
		return s.Fold(ctx, o)
	}),
	wire.Compact: changes(acquirePut, func(ctx context.Context, s *tables.Store, o *tables.MaintainOptions) (tables.MaintainResult, error) {
		return s.Compact(ctx, o)
	}),
	wire.Expire: changes(acquirePut, func(ctx context.Context, s *tables.Store, o *tables.MaintainOptions) (tables.MaintainResult, error) {
		return s.Expire(ctx, o)
	}),
	wire.DeleteRows: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Deletion) (wire.PutDone, error) {
		where, err := filter.Parse(c.Where)
		if err != nil {
			return wire.PutDone{}, err
		}
		done, err := s.Bucket(c.Bucket).DeleteRows(ctx, c.Name, where)
		return wire.Done(done), err
	}),
	wire.Partition: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Periods) (wire.Partitioned, error) {
		done, err := s.Bucket(c.Bucket).Partition(ctx, c.Name, c.By)
		return wire.Partitioned(done), err
	}),
	wire.BucketMetadata: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		var c wire.Metadata
		if err := parse(body, &c); err != nil {
			return err
		}
		m, err := s.store.Bucket(c.Bucket).Metadata(ctx)
		if err != nil {
			return err
		}
		return send(m)
	},
	wire.ChangeMetadata: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Metadata) (struct{}, error) {
		return struct{}{}, s.Bucket(c.Bucket).ChangeMetadata(ctx, c.Name, c.MetadataChange)
	}),
	wire.Snapshots: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		var c wire.Snapshot
		if err := parse(body, &c); err != nil {
			return err
		}
		all, err := s.store.Bucket(c.Bucket).Snapshots(ctx)
		if err != nil {
			return err
		}
		return send(all)
	},
	wire.TakeSnapshot: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Snapshot) (wire.Snapshot, error) {
		name, err := s.Bucket(c.Bucket).Snapshot(ctx, c.Name)
		return wire.Snapshot{Bucket: c.Bucket, Name: name}, err
	}),
	wire.DeleteSnapshots: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Snapshot) (struct{}, error) {
		if c.All {
			return struct{}{}, s.Bucket(c.Bucket).DeleteSnapshots(ctx)
		}
		return struct{}{}, s.Bucket(c.Bucket).DeleteSnapshot(ctx, c.Name)
	}),
	wire.Restore: changes(acquirePut, func(ctx context.Context, s *tables.Store, c *wire.Snapshot) (struct{}, error) {
		return struct{}{}, s.Bucket(c.Bucket).Restore(ctx, c.Name, c.Tables...)
	}),
	wire.TakeLock: (*ownServer).lock,
	wire.Unlock: func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		var c wire.Lock
		if err := parse(body, &c); err != nil {
			return err
		}
		if err := mayWrite(ctx); err != nil {
			return err
		}
		if err := s.unlock(c.Lease); err != nil {
			return err
		}
		return send(struct{}{})
	},
	wire.Resample: changes(acquireBoth, transform.Resample),
	wire.Combine:  changes(acquireBoth, transform.Combine),
	wire.Clean:    changes(acquireBoth, transform.Clean),
}

// action answers an action of ownActions.
func (s *ownServer) action(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	return sqlError(ownActions[a.GetType()](s, stream.Context(), a.GetBody(), func(v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return stream.Send(&flight.Result{Body: body})
	}))
}

func (s *ownServer) withTable(ctx context.Context, body []byte, f func(*tables.Table) error) error {
	var c wire.Table
	if err := parse(body, &c); err != nil {
		return err
	}
	t, err := s.table(ctx, c)
	if err != nil {
		return err
	}
	return f(t)
}

func sendAll[T any](all iter.Seq2[T, error], send func(any) error) error {
	for v, err := range all {
		if err == nil {
			err = send(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changes makes an action of what takes the right to write, and its turn.
func changes[O, R any](
	turn func(context.Context) (func(), error), do func(context.Context, *tables.Store, *O) (R, error),
) func(*ownServer, context.Context, []byte, func(any) error) error {
	return func(s *ownServer, ctx context.Context, body []byte, send func(any) error) error {
		if err := mayWrite(ctx); err != nil {
			return err
		}
		o := new(O)
		if err := parse(body, o); err != nil {
			return err
		}
		end, err := turn(ctx)
		if err != nil {
			return err
		}
		defer end()
		result, err := do(ctx, s.store, o)
		if err != nil {
			return err
		}
		return send(result)
	}
}
