package foreign

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// IsApplied reports whether cur, which can be nil, already contains the change: it has the change's snapshots, with the
// same manifest lists, and the other updates would change nothing. In this case, the client is repeating a commit
// because it has not received the response.
func (p *Step) IsApplied(cur *table.Table) bool {
	if cur == nil || p.Change.New != nil {
		return false
	}
	meta := cur.Metadata()
	var added []int64
	var others table.Updates
	for _, u := range p.Change.Updates {
		var in struct { // decoded from JSON, because iceberg-go does not export the types of the updates
			Snapshot *table.Snapshot
			Ref      string `json:"ref-name"`
			ID       int64  `json:"snapshot-id"`
		}
		switch u.Action() {
		case table.UpdateAddSnapshot, table.UpdateSetSnapshotRef:
			if text, err := json.Marshal(u); err != nil || json.Unmarshal(text, &in) != nil {
				return false
			}
		}
		switch {
		case in.Snapshot != nil:
			s := meta.SnapshotByID(in.Snapshot.SnapshotID)
			if s == nil || s.ManifestList == "" || s.ManifestList != in.Snapshot.ManifestList {
				return false
			}
			added = append(added, s.SnapshotID)
		case !slices.Contains(added, in.ID) || !hasMovedPast(meta, in.Ref, in.ID):
			others = append(others, u)
		}
	}
	return len(added) > 0 && changesNothing(cur, others)
}

// hasMovedPast reports whether a table's branch named ref has snapshots later than the one with the given ID.
func hasMovedPast(meta table.Metadata, ref string, id int64) bool {
	for name, r := range meta.Refs() {
		if name == ref {
			return r.SnapshotID != id && r.SnapshotRefType == table.BranchRef && table.IsAncestorOf(r.SnapshotID, id, meta.SnapshotByID)
		}
	}
	return false
}

// changesNothing reports whether updates would change only the history of a table's metadata.
func changesNothing(t *table.Table, updates table.Updates) (same bool) {
	fields := func(meta table.Metadata) (m map[string]json.RawMessage, err error) {
		text, err := json.Marshal(meta)
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		for _, name := range []string{"last-updated-ms", "metadata-log", "snapshot-log"} {
			delete(m, name)
		}
		return m, err
	}
	err := parallel.Catch(func() error {
		meta, err := table.UpdateTableMetadata(t.Metadata(), updates, t.MetadataLocation())
		if err != nil {
			return err
		}
		before, err := fields(t.Metadata())
		if err != nil {
			return err
		}
		after, err := fields(meta)
		same = err == nil && maps.EqualFunc(before, after, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
		return err
	})
	return same && err == nil
}
