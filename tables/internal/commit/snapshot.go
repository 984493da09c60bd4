package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/datafile"
)

// AddSnapshot returns meta with a new current snapshot that consists of the given manifests. It writes the manifest list.
func (a *Attempt) AddSnapshot(meta table.Metadata, id int64, summary *table.Summary, manifests []iceberg.ManifestFile) (table.Metadata, error) {
	schemaID := meta.CurrentSchema().ID
	s := &table.Snapshot{
		SnapshotID: id, SequenceNumber: meta.LastSequenceNumber() + 1, TimestampMs: a.Now.UnixMilli(),
		Summary: summary, SchemaID: &schemaID,
	}
	if cur := meta.CurrentSnapshot(); cur != nil {
		s.ParentSnapshotID = &cur.SnapshotID
		s.TimestampMs = max(s.TimestampMs, cur.TimestampMs)
	}
	var firstRow int64
	if meta.Version() >= 3 {
		firstRow = meta.NextRowID()
		added := int64(0) // rows that get new IDs: the manifest list assigns them to manifests without IDs
		for _, m := range manifests {
			if m.ManifestContent() == iceberg.ManifestContentData && m.FirstRowID() == nil {
				added += m.ExistingRows() + m.AddedRows()
			}
		}
		s.FirstRowID, s.AddedRows = &firstRow, &added
	}
	s.ManifestList = fmt.Sprintf("%s/metadata/snap-%d-0-%s.avro", meta.Location(), id, uuid.NewString())
	w, err := a.IO.Create(s.ManifestList)
	if err != nil {
		return nil, err
	}
	err = iceberg.WriteManifestList(meta.Version(), w, id, s.ParentSnapshotID, &s.SequenceNumber, firstRow, manifests)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	b, err := table.MetadataBuilderFromBase(meta, "")
	if err != nil {
		return nil, err
	}
	main := b.NewRetainingSnapshotRefUpdate(table.MainBranch, id, table.BranchRef)
	return table.UpdateTableMetadata(meta, []table.Update{table.NewAddSnapshotUpdate(s), main}, "")
}

// WriteManifest writes a manifest for the snapshot with the given ID.
func (a *Attempt) WriteManifest(meta table.Metadata, spec iceberg.PartitionSpec, id int64, entries []iceberg.ManifestEntry) (iceberg.ManifestFile, error) {
	location := fmt.Sprintf("%s/metadata/%s-m0.avro", meta.Location(), uuid.NewString())
	w, err := a.IO.Create(location)
	if err != nil {
		return nil, err
	}
	m, err := iceberg.WriteManifest(location, w, meta.Version(), spec, meta.CurrentSchema(), id, entries)
	return m, errors.Join(err, w.Close())
}

// ReplaceAll replaces all files of t, a table of the attempt. It reads the old manifests once, and writes a single
// manifest. ReplaceFiles reads the old manifests twice, and writes at least two. It also needs a list of the old files,
// which takes another pass over the manifests.
func (a *Attempt) ReplaceAll(ctx context.Context, t *table.Table, files []iceberg.DataFile) (table.Metadata, error) {
	meta, err := a.replaceAll(ctx, t, files)
	if meta != nil || err != nil {
		return meta, err
	}
	old, err := datafile.Files(ctx, t)
	if err != nil {
		return nil, err
	}
	return ReplaceFiles(ctx, t, old, files, nil)
}

// replaceAll is ReplaceAll for tables of format version 2 or later that have files, but neither partitions nor delete
// files. It returns nil for other tables.
func (a *Attempt) replaceAll(ctx context.Context, t *table.Table, files []iceberg.DataFile) (table.Metadata, error) {
	meta, spec, id := t.Metadata(), t.Spec(), rand.Int64()
	if meta.Version() < 2 || t.CurrentSnapshot() == nil || spec.NumFields() > 0 {
		return nil, nil
	}
	manifests, err := t.CurrentSnapshot().Manifests(a.IO)
	if err == nil {
		files, err = datafile.WithRowIDs(t, files)
	}
	if err != nil {
		return nil, err
	}
	var entries []iceberg.ManifestEntry
	for _, f := range files {
		if int(f.SpecID()) != spec.ID() {
			return nil, nil
		}
		entries = append(entries, iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, f))
	}
	var replaced []iceberg.DataFile
	for _, m := range manifests {
		if m.ManifestContent() != iceberg.ManifestContentData || int(m.PartitionSpecID()) != spec.ID() {
			return nil, nil
		}
		for e, err := range m.Entries(a.IO, true) {
			if err = cmp.Or(err, canceled.Err(ctx)); err != nil {
				return nil, err
			}
			sequence := e.SequenceNum()
			entries = append(entries, iceberg.NewManifestEntry(iceberg.EntryStatusDELETED, &id, &sequence, e.FileSequenceNum(), e.DataFile()))
			replaced = append(replaced, e.DataFile())
		}
	}
	if len(replaced) == 0 {
		return nil, nil
	}
	m, err := a.WriteManifest(meta, spec, id, entries)
	if err != nil {
		return nil, err
	}
	return a.AddSnapshot(meta, id, replacementSummary(files, replaced), []iceberg.ManifestFile{m})
}

// replacementSummary returns the summary of a snapshot with the added files only.
func replacementSummary(added, replaced []iceberg.DataFile) *table.Summary {
	props := iceberg.Properties(iceberg.EnvironmentContext())
	set := func(files []iceberg.DataFile, keys ...string) {
		sums := [3]int64{int64(len(files))}
		for _, f := range files {
			sums[1], sums[2] = sums[1]+f.Count(), sums[2]+f.FileSizeBytes()
		}
		for i, key := range keys {
			if sums[i] > 0 || strings.HasPrefix(key, "total-") {
				props[key] = strconv.FormatInt(sums[i], 10)
			}
		}
	}
	set(added, "added-data-files", "added-records", "added-files-size")
	set(added, "total-data-files", "total-records", "total-files-size")
	set(replaced, "deleted-data-files", "deleted-records", "removed-files-size")
	set(nil, "total-delete-files", "total-position-deletes", "total-equality-deletes")
	return &table.Summary{Operation: table.OpOverwrite, Properties: props}
}
