package commit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// maxPlanned is the maximum number of files that a change plans (matches with their deletes) to count rows. A
// registered table can have thousands of snapshots, each with that many files.
var maxPlanned = 200_000

// withRowCounts returns meta with icecat.RowsProperty in each new snapshot whose other totals do not say how many rows
// it has. Totals that other programs wrote can be missing, or still count replaced deletion vectors.
func (a *Attempt) withRowCounts(ctx context.Context, meta table.Metadata) (table.Metadata, error) {
	if meta.Version() < 2 { // such tables have no delete files, and their manifest lists may lack row counts
		return meta, nil
	}
	snapshots, counted, budget := meta.Snapshots(), map[int64]*table.Snapshot{}, maxPlanned
	for i := range snapshots {
		s := &snapshots[i]
		if a.initial != nil && a.initial.SnapshotByID(s.SnapshotID) != nil {
			continue
		}
		summary := table.Summary{Operation: table.OpOverwrite}
		if s.Summary != nil {
			summary = *s.Summary
		}
		props := summary.Properties
		_, hasCount := props[icecat.RowsProperty] // never trusted, because the snapshot's writer may have copied it
		_, hasTotal := props["total-records"]
		_, hasDeletes := props["total-delete-files"]
		var parent *table.Snapshot
		if s.ParentSnapshotID != nil {
			parent = cmp.Or(counted[*s.ParentSnapshotID], meta.SnapshotByID(*s.ParentSnapshotID))
		}
		var l icecat.Listed
		l.Totals(s)
		if !hasCount && hasTotal && hasDeletes && !l.AtMost && !hasRowCount(parent) {
			continue
		}
		rows, atMost, err := a.countRows(ctx, meta, s, parent, &budget)
		if err != nil {
			return nil, err
		}
		if !hasCount && !atMost && !l.AtMost && l.Rows == rows { // a maximum is kept, so that an append need not count again
			continue
		}
		text := strconv.FormatInt(rows, 10)
		if atMost {
			text = "<=" + text
		}
		summary.Properties = iceberg.Properties{}
		maps.Copy(summary.Properties, props)
		summary.Properties[icecat.RowsProperty] = text
		s.Summary, counted[s.SnapshotID] = &summary, s
	}
	if len(counted) == 0 {
		return meta, nil
	}
	return EditMetadata(meta, map[string]any{"snapshots": snapshots})
}

// hasRowCount reports whether a snapshot, which can be nil, has icecat.RowsProperty. Later snapshots derive their
// totals from this one, so theirs can be equally wrong.
func hasRowCount(s *table.Snapshot) bool {
	return icecat.SummaryOf(s)[icecat.RowsProperty] != ""
}

// countRows returns the number of rows in a snapshot. atMost reports whether position or equality deletes apply; the
// number then includes the rows that they delete. parent is the snapshot's parent, or nil. countRows subtracts the
// snapshot's files from budget, which is the number of files that may still be planned. If there are more, atMost is true,
// except for the current snapshot.
func (a *Attempt) countRows(ctx context.Context, meta table.Metadata, s, parent *table.Snapshot, budget *int) (rows int64, atMost bool, err error) {
	rows, files, deletes, err := a.storedRows(s)
	if err != nil || len(deletes) == 0 {
		return rows, false, err
	}
	if hasRowCount(parent) && s.Summary != nil && s.Summary.Operation == table.OpAppend {
		var before icecat.Listed
		before.Totals(parent)
		stored, _, sameDeletes, err := a.storedRows(parent)
		if err != nil || slices.Equal(deletes, sameDeletes) { // no delete file applies to appended rows
			return before.Rows + rows - stored, before.AtMost, err
		}
	}
	*budget -= files
	if current := meta.CurrentSnapshot(); *budget < 0 && (current == nil || current.SnapshotID != s.SnapshotID) {
		return rows, true, nil
	}
	tasks, err := datafile.Tasks(ctx, a.Table(meta), table.WithSnapshotID(s.SnapshotID))
	rows = 0
	for _, task := range tasks {
		rows += task.File.Count()
		for _, v := range task.DeletionVectorFiles {
			rows -= v.Count()
		}
		// a deletion vector includes the rows of position delete files
		atMost = atMost || len(task.EqualityDeleteFiles) > 0 || len(task.DeleteFiles) > 0 && len(task.DeletionVectorFiles) == 0
	}
	return max(rows, 0), atMost, err
}

// storedRows returns the number of rows in a snapshot's data files, the number of data and delete files, and the sorted
// paths of the manifests that have delete files.
func (a *Attempt) storedRows(s *table.Snapshot) (rows int64, files int, deletes []string, err error) {
	manifests, err := s.Manifests(a.IO)
	for _, m := range manifests {
		files += int(m.AddedDataFiles() + m.ExistingDataFiles())
		if m.ManifestContent() == iceberg.ManifestContentData {
			rows += m.AddedRows() + m.ExistingRows()
		} else if m.HasAddedFiles() || m.HasExistingFiles() {
			deletes = append(deletes, m.FilePath())
		}
	}
	slices.Sort(deletes)
	return rows, files, deletes, err
}
