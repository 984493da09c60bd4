package tables

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// restoreStep restores a table's rows, columns and properties.
type restoreStep struct {
	source         *table.Table
	meta           Metadata
	uuid, location string         // UUID and location of the new table, if the step must create one
	ids            []icecat.PutID // IDs of the puts in source, which a new table gets too

	copied *content.Copy // the copied data files if the table comes from another store; otherwise nil
	copyOf string        // result of originOf for the original table; "" if copied is nil
	// metadata location that the table must have when the step commits: "" if the table must not exist; nil if any
	// location is allowed
	base *string
}

// newRestoreStep returns a step that restores the table state l, which the catalog src contains, to the catalog dst.
func newRestoreStep(ctx context.Context, src, dst *icecat.Catalog, l icecat.Listed) (*restoreStep, error) {
	source, err := src.LoadAt(ctx, l.Namespace, l.Name, l.Location)
	if err != nil {
		return nil, err
	}
	ids, err := src.PutsIn(ctx, source.Metadata().TableUUID().String(), l.Location)
	return &restoreStep{source: source, meta: l.Metadata, uuid: uuid.NewString(), location: dst.NewLocation(), ids: ids}, err
}

func (r *restoreStep) apply(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if r.copied != nil {
		if base := r.base; base != nil && !a.Damaged && (cur == nil && *base != "" || cur != nil && *base != cur.MetadataLocation()) {
			return nil, fmt.Errorf("%w: the table in the destination changed during the copy", ErrConflict)
		}
		a.Info.CopyOf = r.copyOf
	} else if cur != nil && cur.MetadataLocation() == r.source.MetadataLocation() {
		return nil, commit.ErrNothing
	}
	source := r.source.Metadata()
	a.Info.Updated, a.Info.Metadata = a.Now, r.meta
	var meta table.Metadata
	if r.copied == nil && cur != nil && cur.Metadata().TableUUID() == source.TableUUID() {
		meta = cur.Metadata()
		a.IDs, a.Restored = nil, r.source.MetadataLocation() // the catalog already has the put IDs of source
	} else {
		minSequence := int64(0)
		if cur != nil {
			minSequence = cur.Metadata().LastSequenceNumber()
		}
		meta, err = r.newMetadata(source, minSequence)
		if err != nil {
			return nil, err
		}
		a.IDs = append(a.IDs, r.ids...)
	}
	before := meta
	meta, err = withColumns(meta, source)
	if err == nil {
		meta, err = definition.WithReplacement(before, meta, true)
	}
	if err != nil {
		return nil, err
	}
	fields, err := iceberg.IndexByID(meta.CurrentSchema())
	if err != nil {
		return nil, err
	}
	for id := range fields {
		if _, ok := before.CurrentSchema().FindFieldByID(id); !ok {
			versions := append(strings.Fields(meta.Properties()[columnsRestoredProperty]), fmt.Sprint(meta.LastSequenceNumber()+1))
			versions = versions[max(0, len(versions)-definition.MaxRecords):]
			restored := table.NewSetPropertiesUpdate(iceberg.Properties{columnsRestoredProperty: strings.Join(versions, " ")})
			meta, err = table.UpdateTableMetadata(meta, []table.Update{restored}, "")
			if err != nil {
				return nil, err
			}
			break
		}
	}
	if source.CurrentSnapshot() == nil && meta.CurrentSnapshot() == nil {
		return meta, nil
	}
	return r.withRows(a, meta)
}

// columnsRestoredProperty is the table property that lists the versions of restores that brought back dropped columns,
// separated by spaces. Files older than these versions can have values for the columns.
const columnsRestoredProperty = "partd.columns-restored"

// newMetadata returns metadata for a new table that is like source but has no rows. The new table has another UUID, so
// that it does not contain rows in a tail for the old UUID. Its last sequence number is at least minSequence.
func (r *restoreStep) newMetadata(source table.Metadata, minSequence int64) (table.Metadata, error) {
	props := maps.Clone(source.Properties())
	maps.DeleteFunc(props, func(k, _ string) bool { return strings.HasPrefix(k, tail.PropertyPrefix) })
	return commit.EditMetadata(source, map[string]any{
		"table-uuid": r.uuid, "location": r.location, "properties": props,
		"last-sequence-number": max(source.LastSequenceNumber(), minSequence),
		"snapshots":            nil, "current-snapshot-id": nil, "refs": nil, "snapshot-log": nil, "metadata-log": nil, "statistics": nil, "partition-statistics": nil,
	})
}

// withColumns returns meta with the columns and properties of source. It keeps columns that only partition specs use.
func withColumns(meta, source table.Metadata) (table.Metadata, error) {
	columns, err := definition.WithSources(meta, source.CurrentSchema())
	if err != nil {
		return nil, err
	}
	order := source.SortOrder()
	updates := []table.Update{
		table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1),
		// data files of source refer to source's sort order
		table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(-1),
	}
	if source.Version() > meta.Version() {
		updates = append([]table.Update{table.NewUpgradeFormatVersionUpdate(source.Version())}, updates...)
	}
	meta, err = table.UpdateTableMetadata(meta, updates, "")
	if err != nil {
		return nil, err
	}
	isKept := func(k string) bool {
		return strings.HasPrefix(k, tail.PropertyPrefix) || strings.HasPrefix(k, schema.PropertyPrefix) || icecat.IsMetadata(k) || k == "format-version" || k == columnsRestoredProperty || k == definition.HistoryProperty || k == definition.ReplacementsProperty
	}
	set := maps.Clone(source.Properties())
	maps.DeleteFunc(set, func(k, _ string) bool { return isKept(k) })
	if put, ok := source.Properties()[schema.Property(source.CurrentSchema().ID)]; ok {
		set[schema.Property(meta.CurrentSchema().ID)] = put
	}
	var removed []string
	for k := range meta.Properties() {
		if _, inSource := source.Properties()[k]; !inSource && !isKept(k) {
			removed = append(removed, k)
		}
	}
	return table.UpdateTableMetadata(meta, icecat.PropertyUpdates(set, removed), "")
}

// withRows returns meta with a new version that consists of the files in the newest version of r.source. It writes a
// new manifest list instead of sharing the source's, because other programs delete a version's list when they expire
// the version.
func (r *restoreStep) withRows(a *commit.Attempt, meta table.Metadata) (_ table.Metadata, err error) {
	source, id := r.source.CurrentSnapshot(), rand.Int64()
	summary := &table.Summary{Operation: table.OpDelete, Properties: iceberg.Properties{"total-records": "0", "total-data-files": "0", "total-files-size": "0"}}
	var manifests []iceberg.ManifestFile
	if source != nil {
		if r.copied != nil {
			manifests, err = r.writeManifests(a, meta, source, id)
		} else {
			manifests, err = source.Manifests(a.IO)
		}
		if err != nil {
			return nil, err
		}
		summary = &table.Summary{Operation: table.OpOverwrite, Properties: commit.Totals(source)}
	}
	return a.AddSnapshot(meta, id, summary, manifests)
}

// writeManifests writes the manifests of source again, but with the locations of the copied files. Files keep their
// sequence numbers, because these determine the order of the rows.
func (r *restoreStep) writeManifests(a *commit.Attempt, meta table.Metadata, source *table.Snapshot, id int64) (manifests []iceberg.ManifestFile, err error) {
	err = r.copied.Entries(source, func(m iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
		spec := meta.PartitionSpecByID(int(m.PartitionSpecID()))
		if spec == nil {
			return fmt.Errorf("manifest %s: the table has no partition spec %d", m.FilePath(), m.PartitionSpecID())
		}
		var newEntries []iceberg.ManifestEntry
		for _, e := range entries {
			f, sequence := e.DataFile(), e.SequenceNum()
			b, err := datafile.Rebuild(*spec, f, r.copied.Location(f.FilePath()))
			if err != nil {
				return err
			}
			if firstRow := f.FirstRowID(); firstRow != nil {
				b.FirstRowID(*firstRow)
			}
			newEntries = append(newEntries, iceberg.NewManifestEntry(iceberg.EntryStatusEXISTING, &id, &sequence, e.FileSequenceNum(), b.Build()))
		}
		manifest, err := a.WriteManifest(meta, *spec, id, newEntries)
		manifests = append(manifests, manifest)
		return err
	})
	return manifests, err
}
