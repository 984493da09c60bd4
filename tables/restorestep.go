package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
)

// restoreStep restores the rows, columns and properties of a table.
type restoreStep struct {
	source         *table.Table
	meta           Metadata
	uuid, location string // for a table that no longer exists

	copied *content.Copy // the copied data files, if the table comes from another store, or nil
	copyOf string        // key of the original's metadata; see Store.key
	base   *string       // metadata location that the table must have now, "" for no table; nil allows any
}

func (r *restoreStep) apply(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if r.copied != nil {
		if base := r.base; base != nil && !a.Damaged && (cur == nil && *base != "" || cur != nil && *base != cur.MetadataLocation()) {
			return nil, fmt.Errorf("%w: the table was changed while it was copied", ErrConflict)
		}
		a.Info.CopyOf = r.copyOf
	} else if cur != nil && cur.MetadataLocation() == r.source.MetadataLocation() {
		return nil, commit.ErrNothing
	}
	source := r.source.Metadata()
	a.Info.Updated, a.Info.Metadata = a.Now, r.meta
	var now table.Metadata
	if r.copied == nil && cur != nil && cur.Metadata().TableUUID() == source.TableUUID() {
		now = cur.Metadata()
	} else {
		minSequence := int64(0)
		if cur != nil {
			minSequence = cur.Metadata().LastSequenceNumber()
		}
		if now, err = r.newMetadata(source, minSequence); err != nil {
			return nil, err
		}
	}
	if now, err = withColumns(now, source); err != nil {
		return nil, err
	}
	if source.CurrentSnapshot() == nil && now.CurrentSnapshot() == nil {
		return now, nil
	}
	return r.withRows(a, now)
}

// newMetadata returns the metadata of a new table like source, without rows. It has a new identity, so that
// rows still in a tail for the old table do not appear in it.
func (r *restoreStep) newMetadata(source table.Metadata, minSequence int64) (table.Metadata, error) {
	b, err := json.Marshal(source)
	if err != nil {
		return nil, err
	}
	parts := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &parts); err != nil {
		return nil, err
	}
	props := maps.Clone(source.Properties())
	maps.DeleteFunc(props, func(k, _ string) bool { return strings.HasPrefix(k, tailProperties) })
	for k, v := range map[string]any{
		"table-uuid": r.uuid, "location": r.location, "properties": props,
		"last-sequence-number": max(source.LastSequenceNumber(), minSequence),
	} {
		if parts[k], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	for _, k := range []string{"snapshots", "current-snapshot-id", "refs", "snapshot-log", "metadata-log", "statistics", "partition-statistics"} {
		delete(parts, k)
	}
	if b, err = json.Marshal(parts); err != nil {
		return nil, err
	}
	return table.ParseMetadataBytes(b)
}

// tailProperties is the prefix of the properties that record what was folded; a restore keeps them.
const tailProperties = "partd.tail-epoch."

// withColumns returns metadata now with the columns and properties of source.
func withColumns(now, source table.Metadata) (table.Metadata, error) {
	columns, order := *source.CurrentSchema(), source.SortOrder()
	ups := []table.Update{
		table.NewAddSchemaUpdate(&columns), table.NewSetCurrentSchemaUpdate(-1),
		table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(-1), // files refer to their sort order by its number
	}
	if source.Version() > now.Version() {
		ups = append([]table.Update{table.NewUpgradeFormatVersionUpdate(source.Version())}, ups...)
	}
	now, err := table.UpdateTableMetadata(now, ups, "")
	if err != nil {
		return nil, err
	}
	isKept := func(k string) bool {
		return strings.HasPrefix(k, tailProperties) || strings.HasPrefix(k, schema.PropertyPrefix) || icecat.IsMetadata(k) || k == "format-version"
	}
	set := iceberg.Properties{}
	for k, v := range source.Properties() {
		if !isKept(k) {
			set[k] = v
		}
	}
	if put, ok := source.Properties()[schema.Property(source.CurrentSchema().ID)]; ok {
		set[schema.Property(now.CurrentSchema().ID)] = put
	}
	var removed []string
	for k := range now.Properties() {
		if _, had := source.Properties()[k]; !had && !isKept(k) {
			removed = append(removed, k)
		}
	}
	ups = []table.Update{table.NewSetPropertiesUpdate(set)}
	if len(removed) > 0 {
		ups = append(ups, table.NewRemovePropertiesUpdate(removed))
	}
	return table.UpdateTableMetadata(now, ups, "")
}

// withRows returns metadata with a new version that has the files of source's newest version. It writes a new
// manifest list, because other programs remove a version's list when they expire the version.
func (r *restoreStep) withRows(a *commit.Attempt, now table.Metadata) (_ table.Metadata, err error) {
	source, id, added := r.source.CurrentSnapshot(), rand.Int64(), int64(0)
	summary := &table.Summary{Operation: table.OpDelete, Properties: iceberg.Properties{"total-records": "0", "total-data-files": "0", "total-files-size": "0"}}
	var manifests []iceberg.ManifestFile
	if source != nil {
		if r.copied != nil {
			manifests, added, err = r.writeManifests(a, now, source, id)
		} else {
			manifests, err = source.Manifests(a.IO)
		}
		if err != nil {
			return nil, err
		}
		summary = &table.Summary{Operation: table.OpOverwrite, Properties: iceberg.Properties{}}
		if source.Summary != nil {
			for k, v := range source.Summary.Properties {
				if strings.HasPrefix(k, "total-") {
					summary.Properties[k] = v
				}
			}
		}
	}
	schemaID := now.CurrentSchema().ID
	s := &table.Snapshot{
		SnapshotID: id, SequenceNumber: now.LastSequenceNumber() + 1, TimestampMs: a.Now.UnixMilli(),
		Summary: summary, SchemaID: &schemaID,
	}
	if cur := now.CurrentSnapshot(); cur != nil {
		s.ParentSnapshotID = &cur.SnapshotID
		s.TimestampMs = max(s.TimestampMs, cur.TimestampMs)
	}
	var firstRow int64
	if now.Version() >= 3 {
		firstRow = now.NextRowID()
		s.FirstRowID, s.AddedRows = &firstRow, &added
	}
	s.ManifestList = fmt.Sprintf("%s/metadata/snap-%d-0-%s.avro", now.Location(), s.SnapshotID, uuid.NewString())
	w, err := a.IO.Create(s.ManifestList)
	if err != nil {
		return nil, err
	}
	err = iceberg.WriteManifestList(now.Version(), w, s.SnapshotID, s.ParentSnapshotID, &s.SequenceNumber, firstRow, manifests)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return table.UpdateTableMetadata(now, []table.Update{
		table.NewAddSnapshotUpdate(s), table.NewSetSnapshotRefUpdate(table.MainBranch, s.SnapshotID, table.BranchRef, -1, -1, -1),
	}, "")
}

// writeManifests writes the manifests of a version, with the locations of the copied files, and returns the
// number of rows. Files keep their sequence numbers, and so their order.
func (r *restoreStep) writeManifests(a *commit.Attempt, now table.Metadata, source *table.Snapshot, id int64) (manifests []iceberg.ManifestFile, rows int64, err error) {
	err = r.copied.Entries(source, func(m iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
		spec := now.PartitionSpecByID(int(m.PartitionSpecID()))
		if spec == nil {
			return fmt.Errorf("manifest %s: the table has no partition spec %d", m.FilePath(), m.PartitionSpecID())
		}
		loc := fmt.Sprintf("%s/metadata/%s-m0.avro", now.Location(), uuid.NewString())
		out, err := a.IO.Create(loc)
		if err != nil {
			return err
		}
		w, err := iceberg.NewManifestWriter(now.Version(), out, *spec, now.CurrentSchema(), id)
		for i := 0; i < len(entries) && err == nil; i++ {
			e, f := entries[i], entries[i].DataFile()
			var b *iceberg.DataFileBuilder
			if b, err = datafile.Rebuild(*spec, f, r.copied.Location(f.FilePath())); err == nil {
				if first := f.FirstRowID(); first != nil {
					b.FirstRowID(*first)
				}
				seq := e.SequenceNum()
				err = w.Existing(iceberg.NewManifestEntry(iceberg.EntryStatusEXISTING, &id, &seq, e.FileSequenceNum(), b.Build()))
				rows += f.Count()
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
		written := a.IO.Written()
		listed, err := w.ToManifestFile(loc, written[len(written)-1].Size)
		manifests = append(manifests, listed)
		return err
	})
	return manifests, rows, err
}
