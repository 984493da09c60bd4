package operations

import (
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/wire"
	"github.com/go-partd/partd/tables/transform"
)

// Buckets and tables.
var (
	Buckets = many(Entry{Name: "buckets", Command: "buckets"},
		func(ctx context.Context, s *tables.Store, _ *None) iter.Seq2[string, error] { return s.Buckets(ctx) })

	Tables = many(Entry{Name: "tables", Command: "list"},
		func(ctx context.Context, s *tables.Store, in *List) iter.Seq2[tables.TableInfo, error] {
			return s.Bucket(in.Bucket).Tables(ctx, &in.Filter)
		})

	Describe = one(Entry{Name: "describe", Command: "describe"},
		func(ctx context.Context, s *tables.Store, in *wire.Table) (d Description, err error) {
			t, err := table(ctx, s, in)
			if err != nil {
				return d, err
			}
			if d.Info, err = t.Info(ctx); err != nil {
				return d, err
			}
			schema, err := t.Schema(ctx)
			if err != nil {
				return d, err
			}
			d.Schema = flight.SerializeSchema(schema, memory.DefaultAllocator)
			d.Parts, err = t.Parts(ctx)
			return d, err
		})

	Versions = ofTable("versions", (*tables.Table).Versions)

	Delete = silent(Entry{Name: "delete", Writes: true, Slots: PutSlot, Page: true, Command: "delete"},
		func(ctx context.Context, s *tables.Store, in *Names) error {
			return s.Bucket(in.Bucket).Delete(ctx, in.Names...)
		})
)

// Settings, columns and rules.
var (
	Settings = ofTable("settings", (*tables.Table).Settings)

	SetSettings = silent(Entry{Name: "set_settings", Writes: true, Slots: PutSlot, Command: "settings"},
		func(ctx context.Context, s *tables.Store, in *TableSettings) error {
			return s.Bucket(in.Bucket).SetSettings(ctx, in.Name, in.Settings)
		})

	Evolve = silent(Entry{Name: "evolve", Writes: true, Slots: PutSlot, Command: "evolve"},
		func(ctx context.Context, s *tables.Store, in *Evolution) error {
			if in.Mode != nil {
				if err := s.Bucket(in.Bucket).SetEvolution(ctx, in.Name, *in.Mode); err != nil {
					return err
				}
			}
			return s.Bucket(in.Bucket).Evolve(ctx, in.Name, in.Changes...)
		})

	Rules = one(Entry{Name: "rules", Command: "rules"},
		func(ctx context.Context, s *tables.Store, in *wire.Table) ([]tables.Rule, error) {
			rules, err := s.Bucket(in.Bucket).Rules(ctx, in.Name)
			return append([]tables.Rule{}, rules...), err // in JSON [], not null
		})

	EditRules = silent(Entry{Name: "edit_rules", Writes: true, Slots: PutSlot, Command: "rules"},
		func(ctx context.Context, s *tables.Store, in *RuleEdit) error {
			return s.Bucket(in.Bucket).EditRules(ctx, in.Name, in.RuleEdit)
		})
)

// Rows, without any that are sent.
var (
	DeleteRows = one(Entry{Name: "delete_rows", Writes: true, Slots: PutSlot, Page: true, Command: "delete-rows"},
		func(ctx context.Context, s *tables.Store, in *Deletion) (tables.Rewritten, error) {
			where, err := filter.Parse(in.Where)
			if err != nil {
				return tables.Rewritten{}, err
			}
			return s.Bucket(in.Bucket).DeleteRows(ctx, in.Name, where)
		})

	Partition = one(Entry{Name: "partition", Writes: true, Slots: PutSlot, Command: "partition"},
		func(ctx context.Context, s *tables.Store, in *Periods) (tables.Partitioned, error) {
			return s.Bucket(in.Bucket).Partition(ctx, in.Name, in.By)
		})

	Resample = transforms("resample", transform.Resample)
	Combine  = transforms("combine", transform.Combine)
	Clean    = transforms("clean", transform.Clean)
)

// Maintenance.
var (
	Fold    = maintains("fold", (*tables.Store).Fold)
	Compact = maintains("compact", (*tables.Store).Compact)
	Expire  = maintains("expire", (*tables.Store).Expire)
)

// Metadata, snapshots and locks.
var (
	BucketMetadata = one(Entry{Name: "bucket_metadata", Command: "meta get"},
		func(ctx context.Context, s *tables.Store, in *Bucket) (tables.Metadata, error) {
			return s.Bucket(in.Bucket).Metadata(ctx)
		})

	ChangeMetadata = silent(Entry{Name: "change_metadata", Writes: true, Slots: PutSlot, Page: true, Command: "meta set"},
		func(ctx context.Context, s *tables.Store, in *Metadata) error {
			return s.Bucket(in.Bucket).ChangeMetadata(ctx, in.Name, in.MetadataChange)
		})

	Snapshots = one(Entry{Name: "snapshots", Command: "snapshot list"},
		func(ctx context.Context, s *tables.Store, in *Bucket) ([]tables.SnapshotInfo, error) {
			return s.Bucket(in.Bucket).Snapshots(ctx)
		})

	TakeSnapshot = one(Entry{Name: "snapshot", Writes: true, Slots: PutSlot, Page: true, Command: "snapshot create"},
		func(ctx context.Context, s *tables.Store, in *Snapshot) (Snapshot, error) {
			name, err := s.Bucket(in.Bucket).Snapshot(ctx, in.Name)
			return Snapshot{Bucket: in.Bucket, Name: name}, err
		})

	DeleteSnapshots = silent(Entry{
		Name: "delete_snapshots", Aliases: []string{"delete_snapshot"},
		Writes: true, Slots: PutSlot, Page: true, Command: "snapshot delete",
	}, func(ctx context.Context, s *tables.Store, in *Snapshot) error {
		if in.All {
			return s.Bucket(in.Bucket).DeleteSnapshots(ctx)
		}
		return s.Bucket(in.Bucket).DeleteSnapshot(ctx, in.Name)
	})

	Restore = silent(Entry{Name: "restore", Writes: true, Slots: PutSlot, Page: true, Command: "snapshot restore"},
		func(ctx context.Context, s *tables.Store, in *Snapshot) error {
			return s.Bucket(in.Bucket).Restore(ctx, in.Name, in.Tables...)
		})

	// A server does these itself: it lends locks, which end unless they are renewed.
	TakeLock = many[Lock, Lock](Entry{Name: "lock", Writes: true}, nil)
	Unlock   = many[Lock, None](Entry{Name: "unlock", Writes: true}, nil)
)

func table(ctx context.Context, s *tables.Store, t *wire.Table) (*tables.Table, error) {
	return s.Bucket(t.Bucket).Table(ctx, t.Name, t.At())
}

// ofTable is an operation that reads what a table has, which the command of its name shows.
func ofTable[Out any](name string, get func(*tables.Table, context.Context) (Out, error)) Operation[wire.Table, Out] {
	return one(Entry{Name: name, Command: name}, func(ctx context.Context, s *tables.Store, in *wire.Table) (out Out, err error) {
		t, err := table(ctx, s, in)
		if err != nil {
			return out, err
		}
		return get(t, ctx)
	})
}

func transforms[In any](name string, do func(context.Context, *tables.Store, *In) (transform.Result, error)) Operation[In, transform.Result] {
	return one(Entry{Name: name, Writes: true, Slots: BothSlots, Page: true, Command: name}, do)
}

func maintains(name string, do func(*tables.Store, context.Context, *tables.MaintainOptions) (tables.MaintainResult, error)) Operation[tables.MaintainOptions, tables.MaintainResult] {
	return one(Entry{Name: name, Writes: true, Slots: PutSlot, Command: name},
		func(ctx context.Context, s *tables.Store, in *tables.MaintainOptions) (tables.MaintainResult, error) {
			return do(s, ctx, in)
		})
}

// List asks for the tables of a bucket.
type List struct {
	Bucket string        `json:"bucket,omitempty"`
	Filter tables.Filter `json:"filter"`
}

// Description is what is known of a table.
type Description struct {
	Info   tables.TableInfo `json:"info"`
	Schema []byte           `json:"schema"` // as in a FlightInfo
	Parts  int              `json:"parts"`  // see wire.Scan.Part
}

// Bucket names a bucket.
type Bucket struct {
	Bucket string `json:"bucket,omitempty"`
}

// Names are those of tables of a bucket.
type Names struct {
	Bucket string   `json:"bucket,omitempty"`
	Names  []string `json:"names"`
}

// TableSettings replace those of a table.
type TableSettings struct {
	Bucket   string          `json:"bucket,omitempty"`
	Name     string          `json:"name"`
	Settings tables.Settings `json:"settings"`
}

// Evolution changes a table's columns, and what puts may change of them.
type Evolution struct {
	Bucket  string                `json:"bucket,omitempty"`
	Name    string                `json:"name"`
	Mode    *tables.Evolution     `json:"mode,omitempty"` // set first
	Changes []tables.ColumnChange `json:"changes,omitempty"`
}

// RuleEdit changes the rules of a table or, without a name, of a bucket.
type RuleEdit struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.RuleEdit
}

// Resampling is a ticket for the rows that [Resample] would put.
type Resampling struct {
	Partd string `json:"partd"` // wire.ResampleCall
	transform.ResampleOptions
}

// Deletion says which rows of a table to delete.
type Deletion struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	Where  string `json:"where"`
}

// Periods says by which periods of time to cut a table's files.
type Periods struct {
	Bucket string           `json:"bucket,omitempty"`
	Name   string           `json:"name"`
	By     tables.Partition `json:"by,omitempty"`
}

// Metadata changes that of a table or, without a name, of a bucket.
type Metadata struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.MetadataChange
}

// Snapshot names a snapshot of a bucket, or with All every one, and the tables of it to
// restore.
type Snapshot struct {
	Bucket string   `json:"bucket,omitempty"`
	Name   string   `json:"name,omitempty"`
	All    bool     `json:"all,omitempty"`
	Tables []string `json:"tables,omitempty"`
}

// Lock asks for a lock for so many seconds, or names the lease of one to renew or end it;
// and it is the answer.
type Lock struct {
	Bucket  string  `json:"bucket,omitempty"`
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Lease   string  `json:"lease,omitempty"`
}
