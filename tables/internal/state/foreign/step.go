package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// ErrRequirement means that a table does not meet a change's requirements.
var ErrRequirement = errors.New("the table has changed since the change was prepared")

// FoldOnLoadProperty is a table property. If it is "false", Load does not fold the table, which would move recently
// appended rows from the tail to data files.
const FoldOnLoadProperty = "partd.fold-on-load"

// maxTableMetadata is the maximum size, in bytes, of JSON metadata from other engines: about 15,000 snapshots.
const maxTableMetadata = 16 << 20

// Step applies a change to one table.
type Step struct {
	*commit.Entry
	Catalog *icecat.Catalog
	Memory  int64 // limit for checking rows
	Change  *Change
	Mode    commit.Mode // what the commit does with rows in the tail

	// ReadRows calls visit with each batch of rows in a table's files, in their stored types. It omits the files whose
	// paths are in skip. It may omit rows that do not match where.
	ReadRows func(ctx context.Context, t *table.Table, skip map[string]bool, columns []string, where *filter.Expr, visit func(arrow.RecordBatch) error) error

	// Normalize returns a table's metadata in the form that readers see.
	Normalize func(map[string]any) (map[string]any, error)
}

// TailMode returns what the commit must do with rows in the tail, which have the old columns.
func (p *Step) TailMode(oldMeta, newMeta table.Metadata) commit.Mode {
	sameColumns := oldMeta.CurrentSchema().ID == newMeta.CurrentSchema().ID && oldMeta.DefaultPartitionSpec() == newMeta.DefaultPartitionSpec() && oldMeta.DefaultSortOrder() == newMeta.DefaultSortOrder()
	s := newMeta.CurrentSnapshot()
	added := len(newSnapshots(oldMeta, newMeta)) > 0
	switch {
	case sameColumns:
		return commit.Plain
	case !added:
		return commit.Folds
	case oldMeta.CurrentSnapshot() != nil && s != nil && s.ParentSnapshotID == nil && oldMeta.SnapshotByID(s.SnapshotID) == nil: // a new snapshot without a parent replaces all rows
		return commit.Replaces
	}
	return commit.Exclusive
}

// Apply returns the table's metadata after the change. cur is nil if the table does not exist.
func (p *Step) Apply(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
	if p.IsApplied(cur) {
		return nil, commit.ErrNothing
	}
	if err := p.CheckRequirements(cur); err != nil {
		return nil, err
	}
	if p.Change.New == nil && len(p.Change.Updates) == 0 && cur != nil {
		return nil, commit.ErrNothing
	}
	meta, err := p.ApplyUpdates(cur)
	if err != nil {
		return nil, err
	}
	var oldMeta table.Metadata
	if cur != nil {
		base, err := p.foldIfNeeded(ctx, a, cur, meta)
		if err != nil {
			return nil, err
		}
		oldMeta = base.Metadata()
		if base != cur {
			meta, err = p.ApplyUpdates(base)
			if err != nil {
				return nil, err
			}
		}
	}
	if err := p.checkChange(ctx, oldMeta, meta); err != nil {
		return nil, err
	}
	if err := p.checkRows(ctx, oldMeta, meta); err != nil {
		return nil, err
	}
	hadRows := oldMeta != nil && oldMeta.CurrentSnapshot() != nil
	if p.Mode == commit.Replaces || hadRows && meta.CurrentSnapshot() == nil { // CREATE OR REPLACE, with AS or without
		meta, err = definition.WithReplacement(oldMeta, meta, false)
		if err != nil {
			return nil, err
		}
	}
	a.Info.Updated = a.Now
	a.Info.Metadata, err = p.Normalize(icecat.FromProperties(meta.Properties()))
	return meta, err
}

// foldIfNeeded moves the tail's rows into files with the old columns if the change alters the columns.
func (p *Step) foldIfNeeded(ctx context.Context, a *commit.Attempt, cur *table.Table, newMeta table.Metadata) (*table.Table, error) {
	mode := p.TailMode(cur.Metadata(), newMeta)
	switch {
	case mode != p.Mode: // the commit would lose rows of the tail or keep rows in the tail that it also writes to files
		return nil, fmt.Errorf("%w: the columns were changed concurrently", ErrRequirement)
	case mode == commit.Folds:
		meta, err := a.FoldTail(ctx, cur)
		if err != nil || meta == cur.Metadata() {
			return cur, err
		}
		return a.Table(meta), nil
	case mode == commit.Exclusive:
		if a.TailRows() > 0 {
			return nil, fmt.Errorf("%w: rows with the old columns were appended concurrently", ErrRequirement)
		}
	}
	return cur, nil
}

// CheckRequirements returns an error unless cur meets the change's requirements. cur is nil if the table does not
// exist.
func (p *Step) CheckRequirements(cur *table.Table) error {
	var meta table.Metadata
	if cur != nil {
		meta = cur.Metadata()
	}
	mustNotExist := p.Change.New != nil
	for _, r := range p.Change.Requirements {
		mustNotExist = mustNotExist || r.GetType() == "assert-create"
	}
	switch {
	case mustNotExist && cur != nil:
		return icecat.ErrExists
	case !mustNotExist && cur == nil:
		return commit.ErrNotFound
	}
	for _, r := range p.Change.Requirements {
		if err := r.Validate(meta); err != nil {
			return fmt.Errorf("%w: %w", ErrRequirement, err)
		}
	}
	return nil
}

// ApplyUpdates returns the metadata after the updates. If cur is nil, this is a new table's metadata.
func (p *Step) ApplyUpdates(cur *table.Table) (meta table.Metadata, err error) {
	if p.Change.New != nil {
		return p.withoutMarks(nil, p.Change.New)
	}
	if err := checkDefinitions(p.Change); err != nil {
		return nil, err
	}
	err = parallel.Catch(func() error {
		if cur != nil {
			meta, err = table.UpdateTableMetadata(cur.Metadata(), p.Change.Updates, cur.MetadataLocation())
			if updates := p.renumbered(cur.Metadata(), meta); err == nil && updates != nil {
				meta, err = table.UpdateTableMetadata(cur.Metadata(), updates, cur.MetadataLocation())
			}
			return err
		}
		version := table.DefaultFormatVersion
		if slices.ContainsFunc(p.Change.Updates, func(u table.Update) bool { return u.Action() == table.UpdateUpgradeFormatVersion }) {
			version = 1 // the updates raise the format version to the requested one
		}
		b, err := table.NewMetadataBuilder(version)
		if err != nil {
			return err
		}
		for _, u := range schemaFirst(p.Change.Updates) {
			if err := u.Apply(b); err != nil {
				return err
			}
		}
		meta, err = b.Build()
		return err
	})
	switch {
	case err == nil:
		return p.withoutMarks(cur, meta)
	case cur != nil && slices.ContainsFunc(p.Change.Updates, func(u table.Update) bool { return u.Action() == table.UpdateAddSnapshot }):
		// the client may have prepared the update for an older table state
		return nil, fmt.Errorf("%w: %w", ErrRequirement, err)
	}
	return nil, &definition.ArgumentError{Err: err}
}

// withoutMarks returns newMeta without partd's properties in the summaries of new snapshots, those that are not in cur.
// With them, the client could forge the table's row count and the versions and times of puts. A registered table loses
// only the row count, because it may have been dropped here. cur can be nil.
func (p *Step) withoutMarks(cur *table.Table, newMeta table.Metadata) (table.Metadata, error) {
	isMark := func(k, _ string) bool {
		return k == icecat.RowsProperty || strings.HasPrefix(k, "partd.") && !p.Change.Registered
	}
	snapshots, changed := newMeta.Snapshots(), false
	for i, s := range snapshots {
		if s.Summary == nil || cur != nil && cur.Metadata().SnapshotByID(s.SnapshotID) != nil {
			continue
		}
		props := maps.Clone(s.Summary.Properties)
		maps.DeleteFunc(props, isMark)
		if len(props) < len(s.Summary.Properties) {
			snapshots[i].Summary, changed = &table.Summary{Operation: s.Summary.Operation, Properties: props}, true
		}
	}
	if !changed {
		return newMeta, nil
	}
	return commit.EditMetadata(newMeta, map[string]any{"snapshots": snapshots})
}

// renumbered returns the client's updates with a valid sequence number for their new snapshot, or nil if no change is
// needed. A change is needed if the client replaces the whole table, and the table has changed since the client loaded
// it. The files that the client wrote can keep their lower sequence numbers: these matter only relative to files from
// earlier snapshots, and the new snapshot has none.
func (p *Step) renumbered(oldMeta, newMeta table.Metadata) table.Updates {
	hasAction := func(action string) func(table.Update) bool {
		return func(u table.Update) bool { return u.Action() == action }
	}
	i := slices.IndexFunc(p.Change.Updates, hasAction(table.UpdateAddSnapshot))
	if i < 0 || newMeta == nil || oldMeta.Version() < 2 || !slices.ContainsFunc(p.Change.Updates, hasAction(table.UpdateRemoveSnapshotRef)) {
		return nil
	}
	added := newSnapshots(oldMeta, newMeta)
	if len(added) != 1 || added[0].ParentSnapshotID != nil || added[0].SequenceNumber > oldMeta.LastSequenceNumber() {
		return nil
	}
	added[0].SequenceNumber = oldMeta.LastSequenceNumber() + 1
	updates := slices.Clone(p.Change.Updates)
	updates[i] = table.NewAddSnapshotUpdate(&added[0])
	return updates
}

// schemaFirst returns updates that create a table, with each set-current-schema moved to directly after its add-schema.
// DuckDB adds a sort order between these two updates, but iceberg-go checks a sort order against the current schema.
func schemaFirst(updates table.Updates) (reordered table.Updates) {
	schemaEnd := 0
	for _, u := range updates {
		if u.Action() == table.UpdateSetCurrentSchema {
			reordered = slices.Insert(reordered, schemaEnd, u)
			schemaEnd++
			continue
		}
		reordered = append(reordered, u)
		if u.Action() == table.UpdateAddSchema {
			schemaEnd = len(reordered)
		}
	}
	return reordered
}

// newSnapshots returns the snapshots that newMeta adds to oldMeta, which can be nil.
func newSnapshots(oldMeta, newMeta table.Metadata) (added []table.Snapshot) {
	for _, s := range newMeta.Snapshots() {
		if oldMeta == nil || oldMeta.SnapshotByID(s.SnapshotID) == nil {
			added = append(added, s)
		}
	}
	return added
}

// currentSnapshots returns the IDs of the snapshots that have been a table's current one. meta can be nil.
func currentSnapshots(meta table.Metadata) map[int64]bool {
	ids := map[int64]bool{}
	if meta != nil {
		for entry := range meta.SnapshotLogs() {
			ids[entry.SnapshotID] = true
		}
	}
	return ids
}

// NewMetadata implements the function of the same name in package iceberg.
func NewMetadata(cat *icecat.Catalog, columns *iceberg.Schema, spec *iceberg.PartitionSpec, order table.SortOrder, props iceberg.Properties) (meta table.Metadata, err error) {
	id := uuid.New()
	err = parallel.Catch(func() error {
		meta, err = table.NewMetadataWithUUID(columns, spec, order, cat.LocationOf(id), props, id)
		return err
	})
	if err != nil {
		err = &definition.ArgumentError{Err: err}
	}
	return meta, err
}

// Read implements ReadMetadata in package iceberg.
func Read(ctx context.Context, cat *icecat.Catalog, location string, admit func(n int64) error) (meta table.Metadata, err error) {
	invalid := func(err error) (table.Metadata, error) {
		return nil, &definition.ArgumentError{Err: fmt.Errorf("cannot register the metadata: %s", err)}
	}
	dir, _, ok := strings.Cut(location, "/metadata/")
	if name, inWarehouse := strings.CutPrefix(dir, cat.DataLocation()); !ok || !inWarehouse || strings.Contains(name, "/") {
		return invalid(fmt.Errorf("%.200q is not in the metadata directory of a table under %s", location, cat.DataLocation()))
	}
	if err := cat.CheckWithin(dir, location); err != nil {
		return invalid(err)
	}
	f, err := cat.NewIO().Open(location)
	if err != nil {
		return invalid(err)
	}
	defer f.Close() //nolint:errcheck // opened only for reading
	info, err := f.Stat()
	if err != nil {
		return invalid(err)
	}
	if err := admit(icecat.CostPerByte * min(info.Size(), maxTableMetadata)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTableMetadata+1))
	if err == nil && len(b) > maxTableMetadata {
		err = fmt.Errorf("it is larger than %d bytes", maxTableMetadata)
	}
	var cost int64
	if err == nil {
		cost, err = icecat.DecodedCost(b)
		if err != nil {
			err = fmt.Errorf("it %w", err)
		}
	}
	if err != nil {
		return invalid(err)
	}
	if err := admit(cost); err != nil {
		return nil, err
	}
	err = parallel.Catch(func() error { meta, err = table.ParseMetadataBytes(b); return err })
	if err == nil && meta.Location() != dir {
		err = fmt.Errorf("it belongs to the table at %q, but is not in that table's metadata directory", meta.Location())
	}
	if err != nil {
		return invalid(err)
	}
	return meta, canceled.Err(ctx)
}
