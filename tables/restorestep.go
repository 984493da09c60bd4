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

// restoreStep gives a table the rows, columns and properties that it had.
type restoreStep struct {
	was            *table.Table
	meta           Metadata
	uuid, location string // for a table that is not there any more

	copied *content.Copy // the data files of a table of another store, else nil
	copyOf string        // of such a table: its metadata there
	base   *string       // the metadata that the table must have here, "" for none; nil is any
}

func (r *restoreStep) apply(_ context.Context, a *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if r.copied != nil {
		if base := r.base; base != nil && !a.Lost && (cur == nil && *base != "" || cur != nil && *base != cur.MetadataLocation()) {
			return nil, fmt.Errorf("%w: the table was changed while it was copied", ErrConflict)
		}
		a.Info.CopyOf = r.copyOf
	} else if cur != nil && cur.MetadataLocation() == r.was.MetadataLocation() {
		return nil, commit.ErrNothing
	}
	was := r.was.Metadata()
	a.Info.Updated, a.Info.Metadata = a.Now, r.meta
	var now table.Metadata
	if r.copied == nil && cur != nil && cur.Metadata().TableUUID() == was.TableUUID() {
		now = cur.Metadata()
	} else {
		least := int64(0)
		if cur != nil {
			least = cur.Metadata().LastSequenceNumber()
		}
		if now, err = r.anew(was, least); err != nil {
			return nil, err
		}
	}
	if now, err = sameColumns(now, was); err != nil {
		return nil, err
	}
	if was.CurrentSnapshot() == nil && now.CurrentSnapshot() == nil {
		return now, nil
	}
	return r.sameRows(a, now)
}

// anew returns a table's metadata as that of another table without rows: rows that
// somebody still has in a tail for the old one must not appear in it.
func (r *restoreStep) anew(was table.Metadata, least int64) (table.Metadata, error) {
	b, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	parts := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &parts); err != nil {
		return nil, err
	}
	props := maps.Clone(was.Properties())
	maps.DeleteFunc(props, func(k, _ string) bool { return strings.HasPrefix(k, tailProperties) })
	for k, v := range map[string]any{
		"table-uuid": r.uuid, "location": r.location, "properties": props,
		"last-sequence-number": max(was.LastSequenceNumber(), least),
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

// tailProperties begins the names of properties that say what is folded: that
// stays so.
const tailProperties = "partd.tail-epoch."

// sameColumns returns metadata with the columns and properties that a table had.
func sameColumns(now, was table.Metadata) (table.Metadata, error) {
	columns, order := *was.CurrentSchema(), was.SortOrder()
	ups := []table.Update{
		table.NewAddSchemaUpdate(&columns), table.NewSetCurrentSchemaUpdate(-1),
		table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(-1), // files tell theirs by its number
	}
	if was.Version() > now.Version() {
		ups = append([]table.Update{table.NewUpgradeFormatVersionUpdate(was.Version())}, ups...)
	}
	now, err := table.UpdateTableMetadata(now, ups, "")
	if err != nil {
		return nil, err
	}
	stays := func(k string) bool {
		return strings.HasPrefix(k, tailProperties) || strings.HasPrefix(k, schema.PropertyPrefix) || icecat.IsMetadata(k) || k == "format-version"
	}
	set := iceberg.Properties{}
	for k, v := range was.Properties() {
		if !stays(k) {
			set[k] = v
		}
	}
	if put, ok := was.Properties()[schema.Property(was.CurrentSchema().ID)]; ok {
		set[schema.Property(now.CurrentSchema().ID)] = put
	}
	var gone []string
	for k := range now.Properties() {
		if _, had := was.Properties()[k]; !had && !stays(k) {
			gone = append(gone, k)
		}
	}
	ups = []table.Update{table.NewSetPropertiesUpdate(set)}
	if len(gone) > 0 {
		ups = append(ups, table.NewRemovePropertiesUpdate(gone))
	}
	return table.UpdateTableMetadata(now, ups, "")
}

// sameRows returns metadata with a new version that has the files of a table's
// newest one. Its list of manifests is a file of its own, for other programs remove
// that of a version that they expire.
func (r *restoreStep) sameRows(a *commit.Attempt, now table.Metadata) (_ table.Metadata, err error) {
	had, id, added := r.was.CurrentSnapshot(), rand.Int64(), int64(0)
	summary := &table.Summary{Operation: table.OpDelete, Properties: iceberg.Properties{"total-records": "0", "total-data-files": "0", "total-files-size": "0"}}
	var manifests []iceberg.ManifestFile
	if had != nil {
		if r.copied != nil {
			manifests, added, err = r.writeManifests(a, now, had, id)
		} else {
			manifests, err = had.Manifests(a.IO)
		}
		if err != nil {
			return nil, err
		}
		summary = &table.Summary{Operation: table.OpOverwrite, Properties: iceberg.Properties{}}
		if had.Summary != nil {
			for k, v := range had.Summary.Properties {
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

// writeManifests writes the manifests of a version, with the files where they are here, and
// returns how many rows they have. Each file keeps its sequence number, and so its place.
func (r *restoreStep) writeManifests(a *commit.Attempt, now table.Metadata, had *table.Snapshot, id int64) (all []iceberg.ManifestFile, rows int64, err error) {
	err = r.copied.Entries(had, func(m iceberg.ManifestFile, entries []iceberg.ManifestEntry) error {
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
			if b, err = datafile.Rebuild(*spec, f, r.copied.At(f.FilePath())); err == nil {
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
		all = append(all, listed)
		return err
	})
	return all, rows, err
}
