package operations

import (
	"context"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/transform"
)

// Operations on buckets and tables.
var (
	Buckets = withAnswers(Entry{Name: "buckets", Command: "buckets"},
		func(ctx context.Context, s *tables.Store, _ *None) iter.Seq2[string, error] { return s.Buckets(ctx) })

	Tables = withAnswers(Entry{Name: "tables", Command: "list"},
		func(ctx context.Context, s *tables.Store, in *List) iter.Seq2[tables.TableInfo, error] {
			return s.Bucket(in.Bucket).Tables(ctx, &in.Filter)
		})

	Describe = withAnswer(Entry{Name: "describe", Command: "describe"},
		func(ctx context.Context, s *tables.Store, in *Table) (d Description, err error) {
			t, err := table(ctx, s, in)
			if err != nil {
				return d, err
			}
			d.Info, err = t.Info(ctx)
			if err != nil {
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

	// Maintenance reports the past and the pending maintenance of a table's files.
	Maintenance = withAnswer(Entry{Name: "maintenance", Command: "describe"},
		func(ctx context.Context, s *tables.Store, in *Table) (tables.MaintenanceState, error) {
			return s.Bucket(in.Bucket).Table(in.Name).Maintenance(ctx)
		})

	Versions = tableProperty("versions", (*tables.Table).Versions)

	Delete = withoutAnswer(Entry{Name: "delete", Writes: true, Slots: PutSlot, Page: true, Command: "delete"},
		func(ctx context.Context, s *tables.Store, in *Names) error {
			return s.Bucket(in.Bucket).Delete(ctx, in.Names...)
		})
)

// Operations on settings, columns and rules.
var (
	Settings = tableProperty("settings", (*tables.Table).Settings)

	SetSettings = withoutAnswer(Entry{Name: "set_settings", Writes: true, Slots: PutSlot, Command: "settings"},
		func(ctx context.Context, s *tables.Store, in *TableSettings) error {
			return s.Bucket(in.Bucket).Table(in.Name).SetSettings(ctx, in.Settings, in.Only...)
		})

	Evolve = withoutAnswer(Entry{Name: "evolve", Writes: true, Slots: PutSlot, Command: "evolve"},
		func(ctx context.Context, s *tables.Store, in *Evolution) error {
			if in.Mode != nil {
				if err := s.Bucket(in.Bucket).Table(in.Name).SetEvolution(ctx, *in.Mode); err != nil {
					return err
				}
			}
			return s.Bucket(in.Bucket).Table(in.Name).Evolve(ctx, in.Changes...)
		})

	Rules = withAnswer(Entry{Name: "rules", Command: "rules"},
		func(ctx context.Context, s *tables.Store, in *Table) ([]tables.Rule, error) {
			readRules := s.Bucket(in.Bucket).Rules
			if in.Name != "" {
				readRules = s.Bucket(in.Bucket).Table(in.Name).Rules
			}
			rules, err := readRules(ctx)
			return append([]tables.Rule{}, rules...), err // without rules, the JSON is [], not null
		})

	EditRules = withoutAnswer(Entry{Name: "edit_rules", Writes: true, Slots: PutSlot, Command: "rules"},
		func(ctx context.Context, s *tables.Store, in *RuleEdit) error {
			if in.Name == "" {
				return s.Bucket(in.Bucket).EditRules(ctx, in.RuleEdit)
			}
			return s.Bucket(in.Bucket).Table(in.Name).EditRules(ctx, in.RuleEdit)
		})
)

// Operations that change tables inside the store: clients neither send nor receive rows.
var (
	DeleteRows = withAnswer(Entry{Name: "delete_rows", Writes: true, Slots: PutSlot, Page: true, Command: "delete-rows"},
		func(ctx context.Context, s *tables.Store, in *Deletion) (tables.RewriteResult, error) {
			where, err := filter.Parse(in.Where)
			if err != nil {
				return tables.RewriteResult{}, err
			}
			return s.Bucket(in.Bucket).Table(in.Name).DeleteRows(ctx, where)
		})

	Exec = withAnswer(Entry{Name: "exec", Writes: true, Slots: BothSlots, Page: true, Command: "sql"},
		func(ctx context.Context, s *tables.Store, in *Statement) (tables.ExecResult, error) {
			parameters, err := DecodeParameters(ctx, in.Parameters, maxParameterBytes)
			if err != nil {
				return tables.ExecResult{}, &tables.ArgumentError{Err: fmt.Errorf("invalid parameters: %w", err)}
			}
			if parameters != nil {
				defer parameters.Release()
			}
			return s.Exec(ctx, in.SQL, &tables.ExecOptions{Bucket: in.Bucket, Parameters: parameters, ID: in.ID, DryRun: in.DryRun})
		})

	Partition = withAnswer(Entry{Name: "partition", Writes: true, Slots: PutSlot, Command: "partition"},
		func(ctx context.Context, s *tables.Store, in *Periods) (tables.PartitionResult, error) {
			return s.Bucket(in.Bucket).Table(in.Name).Partition(ctx, in.By)
		})

	Resample = transformation("resample", transform.Resample)
	Combine  = transformation("combine", transform.Combine)
	Clean    = transformation("clean", transform.Clean)
)

// Maintenance operations.
var (
	Fold    = maintenance("fold", (*tables.Store).Fold)
	Compact = maintenance("compact", (*tables.Store).Compact)
	Expire  = maintenance("expire", (*tables.Store).Expire)
)

// Operations on metadata, snapshots and locks.
var (
	BucketMetadata = withAnswer(Entry{Name: "bucket_metadata", Command: "meta get"},
		func(ctx context.Context, s *tables.Store, in *Bucket) (tables.Metadata, error) {
			return s.Bucket(in.Bucket).Metadata(ctx)
		})

	ChangeMetadata = withoutAnswer(Entry{Name: "change_metadata", Writes: true, Slots: PutSlot, Page: true, Command: "meta set"},
		func(ctx context.Context, s *tables.Store, in *Metadata) error {
			if in.Name == "" {
				return s.Bucket(in.Bucket).ChangeMetadata(ctx, in.MetadataChange)
			}
			return s.Bucket(in.Bucket).Table(in.Name).ChangeMetadata(ctx, in.MetadataChange)
		})

	Snapshots = withAnswer(Entry{Name: "snapshots", Command: "snapshot list"},
		func(ctx context.Context, s *tables.Store, in *Bucket) ([]tables.SnapshotInfo, error) {
			return s.Bucket(in.Bucket).Snapshots(ctx)
		})

	TakeSnapshot = withAnswer(Entry{Name: "snapshot", Writes: true, Slots: PutSlot, Page: true, Command: "snapshot create"},
		func(ctx context.Context, s *tables.Store, in *Snapshot) (Snapshot, error) {
			name, err := s.Bucket(in.Bucket).Snapshot(ctx, in.Name)
			return Snapshot{Bucket: in.Bucket, Name: name}, err
		})

	DeleteSnapshots = withoutAnswer(Entry{
		Name: "delete_snapshots", Aliases: []string{"delete_snapshot"},
		Writes: true, Slots: PutSlot, Page: true, Command: "snapshot delete",
	}, func(ctx context.Context, s *tables.Store, in *Snapshot) error {
		if in.All {
			return s.Bucket(in.Bucket).DeleteSnapshots(ctx)
		}
		return s.Bucket(in.Bucket).DeleteSnapshot(ctx, in.Name)
	})

	Restore = withoutAnswer(Entry{Name: "restore", Writes: true, Slots: PutSlot, Page: true, Command: "snapshot restore"},
		func(ctx context.Context, s *tables.Store, in *Snapshot) error {
			return s.Bucket(in.Bucket).Restore(ctx, in.Name, in.Tables...)
		})

	// Only a server implements locks. A lock is a lease, which expires unless it is renewed.
	TakeLock = withAnswers[Lock, Lock](Entry{Name: "lock", Writes: true}, nil)
	Unlock   = withAnswers[Lock, None](Entry{Name: "unlock", Writes: true}, nil)
)

func table(ctx context.Context, s *tables.Store, t *Table) (*tables.Table, error) {
	return s.Bucket(t.Bucket).Table(t.Name).At(ctx, t.At())
}

// tableProperty returns an operation that reads one property of a table. Its command has the same name.
func tableProperty[Out any](name string, get func(*tables.Table, context.Context) (Out, error)) Operation[Table, Out] {
	return withAnswer(Entry{Name: name, Command: name}, func(ctx context.Context, s *tables.Store, in *Table) (out Out, err error) {
		t, err := table(ctx, s, in)
		if err != nil {
			return out, err
		}
		return get(t, ctx)
	})
}

func transformation[In any](name string, run func(context.Context, *tables.Store, *In) (transform.Result, error)) Operation[In, transform.Result] {
	return withAnswer(Entry{Name: name, Writes: true, Slots: BothSlots, Page: true, Command: name}, run)
}

func maintenance(name string, run func(*tables.Store, context.Context, *tables.MaintainOptions) (tables.MaintainResult, error)) Operation[tables.MaintainOptions, tables.MaintainResult] {
	return withAnswer(Entry{Name: name, Writes: true, Slots: PutSlot, Command: name},
		func(ctx context.Context, s *tables.Store, in *tables.MaintainOptions) (tables.MaintainResult, error) {
			return run(s, ctx, in)
		})
}

// List selects the tables of a bucket to list.
type List struct {
	Bucket string        `json:"bucket,omitempty"`
	Filter tables.Filter `json:"filter"`
}

// Description is the answer to [Describe].
type Description struct {
	Info   tables.TableInfo `json:"info"`
	Schema []byte           `json:"schema"` // Arrow schema, encoded as in a FlightInfo
	Parts  int              `json:"parts"`  // number of parts that a Scan can read separately (see tables.ScanOptions.Part)
}

// Bucket names a bucket.
type Bucket struct {
	Bucket string `json:"bucket,omitempty"`
}

// Names names tables in a bucket.
type Names struct {
	Bucket string   `json:"bucket,omitempty"`
	Names  []string `json:"names"`
}

// TableSettings contains new settings for a table.
type TableSettings struct {
	Bucket   string          `json:"bucket,omitempty"`
	Name     string          `json:"name"`
	Settings tables.Settings `json:"settings"`
	Only     []string        `json:"only,omitzero"` // settings to change; nil means all (see tables.Table.SetSettings)
}

// Evolution is a request to change a table's columns and to set which column changes a put may make.
type Evolution struct {
	Bucket  string                `json:"bucket,omitempty"`
	Name    string                `json:"name"`
	Mode    *tables.Evolution     `json:"mode,omitempty"` // applied before Changes; nil keeps the current mode
	Changes []tables.ColumnChange `json:"changes,omitempty"`
}

// RuleEdit is a request to change the rules of a table or, if Name is empty, of a bucket.
type RuleEdit struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.RuleEdit
}

// Resampling is a Flight ticket for reading the rows that [Resample] would put.
type Resampling struct {
	Partd string `json:"partd"` // must be ResampleCall
	transform.ResampleOptions
}

// Deletion selects rows to delete from a table.
type Deletion struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name"`
	Where  string `json:"where"`
}

// Statement is an SQL statement that changes a table or a bucket. [tables.ExecOptions] describes the fields.
type Statement struct {
	Bucket     string `json:"bucket,omitempty"`
	SQL        string `json:"sql"`
	Parameters []byte `json:"parameters,omitempty"` // an Arrow stream
	ID         string `json:"id,omitempty"`
	DryRun     bool   `json:"dry_run,omitempty"`
}

const maxParameterBytes = 16 << 20 // limit on the memory of a statement's parameters, in bytes

// Periods is a request to set the time periods, such as months, by which a table's files are divided.
type Periods struct {
	Bucket string           `json:"bucket,omitempty"`
	Name   string           `json:"name"`
	By     tables.Partition `json:"by,omitempty"`
}

// Metadata is a request to change the metadata of a table or, if Name is empty, of a bucket.
type Metadata struct {
	Bucket string `json:"bucket,omitempty"`
	Name   string `json:"name,omitempty"`
	tables.MetadataChange
}

// Snapshot names one snapshot of a bucket or, if All is true, all of them.
type Snapshot struct {
	Bucket string   `json:"bucket,omitempty"`
	Name   string   `json:"name,omitempty"`
	All    bool     `json:"all,omitempty"`
	Tables []string `json:"tables,omitempty"` // tables to restore; empty means all
}

// Lock is a request to take a lock, or to renew or end the given lease. Answers to [TakeLock] have the same type.
type Lock struct {
	Bucket  string  `json:"bucket,omitempty"`
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // length of the lease; 0 in a request means the default
	Lease   string  `json:"lease,omitempty"`   // ID of the lease; "" requests a new one
}
