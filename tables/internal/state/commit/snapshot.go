package commit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// AddSnapshot writes a manifest list of the given manifests and returns meta with it as the new current snapshot. The
// snapshot's time is the current time, because readers cannot see the snapshot earlier.
func (a *Attempt) AddSnapshot(meta table.Metadata, id int64, summary *table.Summary, manifests []iceberg.ManifestFile) (table.Metadata, error) {
	schemaID := meta.CurrentSchema().ID
	s := &table.Snapshot{
		SnapshotID: id, SequenceNumber: meta.LastSequenceNumber() + 1, TimestampMs: max(time.Now().UnixMilli(), meta.LastUpdatedMillis()),
		Summary: summary, SchemaID: &schemaID,
	}
	if cur := meta.CurrentSnapshot(); cur != nil {
		s.ParentSnapshotID = &cur.SnapshotID
		s.TimestampMs = max(s.TimestampMs, cur.TimestampMs)
	}
	var firstRow int64
	if meta.Version() >= 3 {
		firstRow = meta.NextRowID()
		added := int64(0) // rows that get new IDs, because the manifest list assigns IDs to manifests without them
		for _, m := range manifests {
			if m.ManifestContent() == iceberg.ManifestContentData && m.FirstRowID() == nil {
				added += m.ExistingRows() + m.AddedRows()
			}
		}
		s.FirstRowID, s.AddedRows = &firstRow, &added
	}
	var err error
	var w iceio.FileWriter
	s.ManifestList, w, err = a.create(meta, fmt.Sprintf("snap-%d-0-%s.avro", id, uuid.NewString()))
	if err != nil {
		return nil, err
	}
	err = iceberg.WriteManifestList(meta.Version(), w, id, s.ParentSnapshotID, &s.SequenceNumber, firstRow, manifests)
	err = errors.Join(err, w.Close())
	if err != nil {
		return nil, err
	}
	b, err := table.MetadataBuilderFromBase(meta, "")
	if err != nil {
		return nil, err
	}
	main := b.NewRetainingSnapshotRefUpdate(table.MainBranch, id, table.BranchRef)
	return table.UpdateTableMetadata(meta, []table.Update{table.NewAddSnapshotUpdate(s), main}, "")
}

// addVersion returns meta with a new version if its columns or row order differ from those of its newest version. So a
// version always shows what readers saw, and a moment after the change has its own version.
func (a *Attempt) addVersion(meta table.Metadata) (table.Metadata, error) {
	if definition.IsCurrent(meta) {
		return meta, nil
	}
	return a.repeat(meta, table.OpReplace, nil)
}

// repeat returns meta with a new snapshot that consists of the current snapshot's files.
func (a *Attempt) repeat(meta table.Metadata, o table.Operation, props iceberg.Properties) (table.Metadata, error) {
	manifests, err := meta.CurrentSnapshot().Manifests(a.IO)
	if err != nil {
		return nil, err
	}
	summary := Totals(meta.CurrentSnapshot())
	maps.Copy(summary, props)
	return a.AddSnapshot(meta, rand.Int64(), &table.Summary{Operation: o, Properties: summary}, manifests)
}

// WriteManifest writes a manifest for the snapshot with the given ID.
func (a *Attempt) WriteManifest(meta table.Metadata, spec iceberg.PartitionSpec, id int64, entries []iceberg.ManifestEntry) (iceberg.ManifestFile, error) {
	location, w, err := a.create(meta, uuid.NewString()+"-m0.avro")
	if err != nil {
		return nil, err
	}
	m, err := iceberg.WriteManifest(location, w, meta.Version(), spec, meta.CurrentSchema(), id, entries)
	return m, errors.Join(err, w.Close())
}

// UndoCompactions returns cur's metadata with a new snapshot. The new snapshot has the same rows as the current one,
// but consists of the files of the snapshot base and of later appends instead of merged files. UndoCompactions returns
// ErrNothing if no files were merged, or if other changes were made since base.
func (a *Attempt) UndoCompactions(cur *table.Table, base int64) (table.Metadata, error) {
	meta, s, id := cur.Metadata(), cur.CurrentSnapshot(), rand.Int64()
	isMerged, appends := false, []*table.Snapshot{}
	for s != nil && s.SnapshotID != base {
		switch {
		case s.Summary == nil || s.ParentSnapshotID == nil:
			return nil, ErrNothing
		case s.Summary.Operation == table.OpReplace:
			isMerged = true
		case s.Summary.Operation == table.OpAppend:
			appends = append(appends, s)
		default:
			return nil, ErrNothing
		}
		s = cur.SnapshotByID(*s.ParentSnapshotID)
	}
	if s == nil || !isMerged {
		return nil, ErrNothing
	}
	manifests, err := s.Manifests(a.IO)
	if err != nil {
		return nil, err
	}
	totals := Totals(s)
	for _, s := range slices.Backward(appends) {
		added, err := a.addedManifests(meta, s, id)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, added...)
		for total, property := range map[string]string{"total-data-files": "added-data-files", "total-records": "added-records", "total-files-size": "added-files-size"} {
			sum, _ := strconv.ParseInt(totals[total], 10, 64)
			n, _ := number(s, property)
			totals[total] = strconv.FormatInt(sum+n, 10)
		}
	}
	return a.AddSnapshot(meta, id, &table.Summary{Operation: table.OpReplace, Properties: totals}, manifests)
}

// addedManifests returns manifests of exactly the files that the snapshot s added. If a manifest also has older files,
// addedManifests writes a new one, for the snapshot with the given ID.
func (a *Attempt) addedManifests(meta table.Metadata, s *table.Snapshot, id int64) (added []iceberg.ManifestFile, err error) {
	manifests, err := s.Manifests(a.IO)
	if err != nil {
		return nil, err
	}
	for _, m := range manifests {
		if m.SnapshotID() != s.SnapshotID {
			continue
		}
		if m.HasExistingFiles() {
			all, err := content.Entries(a.IO, m)
			if err != nil {
				return nil, err
			}
			var entries []iceberg.ManifestEntry
			for _, e := range all {
				if e.Status() == iceberg.EntryStatusADDED {
					sequence := e.SequenceNum()
					entries = append(entries, iceberg.NewManifestEntry(iceberg.EntryStatusEXISTING, &s.SnapshotID, &sequence, e.FileSequenceNum(), e.DataFile()))
				}
			}
			spec := meta.PartitionSpecByID(int(m.PartitionSpecID()))
			m, err = a.WriteManifest(meta, *spec, id, entries)
			if err != nil {
				return nil, err
			}
		}
		added = append(added, m)
	}
	return added, nil
}

// create creates a metadata file in a table's directory.
func (a *Attempt) create(meta table.Metadata, name string) (location string, w iceio.FileWriter, err error) {
	locations, err := table.LoadLocationProvider(meta.Location(), meta.Properties())
	if err != nil {
		return "", nil, err
	}
	location = locations.NewMetadataLocation(name)
	w, err = a.IO.Create(location)
	return location, w, err
}

// maxDeleted is the largest number of deleted entries that replaceAll writes to the manifest with the new files. Every
// scan of the new version decodes these entries, whereas scans skip manifests that have only deleted entries.
const maxDeleted = 100

// ReplaceAll replaces all files of t, a table in the attempt. It reads the old manifests once and usually writes a
// single manifest. ReplaceFiles reads the old manifests twice and writes at least two. It also needs a list of the old
// files, which takes another pass over the manifests.
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
// files. For other tables, it returns nil.
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
	var added, deleted []iceberg.ManifestEntry
	for _, f := range files {
		if int(f.SpecID()) != spec.ID() {
			return nil, nil
		}
		added = append(added, iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, f))
	}
	if slices.ContainsFunc(manifests, func(m iceberg.ManifestFile) bool {
		return m.ManifestContent() != iceberg.ManifestContentData || int(m.PartitionSpecID()) != spec.ID()
	}) {
		return nil, nil
	}
	old := make([][]iceberg.ManifestEntry, len(manifests))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel.DefaultWorkers)
	for i, m := range manifests {
		g.Go(func() error {
			return parallel.Catch(func() (err error) {
				err = canceled.Err(ctx)
				if err == nil {
					old[i], err = content.Entries(a.IO, m)
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var replaced []iceberg.DataFile
	for _, e := range slices.Concat(old...) {
		sequence := e.SequenceNum()
		deleted = append(deleted, iceberg.NewManifestEntry(iceberg.EntryStatusDELETED, &id, &sequence, e.FileSequenceNum(), e.DataFile()))
		replaced = append(replaced, e.DataFile())
	}
	if len(replaced) == 0 {
		return nil, nil
	}
	contents := [][]iceberg.ManifestEntry{slices.Concat(added, deleted)}
	if len(added) > 0 && len(deleted) > maxDeleted {
		contents = [][]iceberg.ManifestEntry{added, deleted}
	}
	manifests = nil
	for _, entries := range contents {
		m, err := a.WriteManifest(meta, spec, id, entries)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m)
	}
	return a.AddSnapshot(meta, id, replacementSummary(files, replaced), manifests)
}

// replacementSummary returns the summary of a snapshot that has only the added files.
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

// Totals returns the properties of a snapshot's summary that begin with "total-", such as its row and file counts.
func Totals(s *table.Snapshot) iceberg.Properties {
	totals := iceberg.Properties{}
	maps.Copy(totals, icecat.SummaryOf(s))
	maps.DeleteFunc(totals, func(k, _ string) bool { return !strings.HasPrefix(k, "total-") })
	return totals
}
