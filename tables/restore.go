package tables

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// Restore makes the bucket what it was in a snapshot, in one commit: its metadata
// and all its tables, with their rows, columns, settings and metadata. Those made
// since are deleted. With names, it restores these tables alone.
//
// A table that is still there gets a new version, with the rows of the snapshot, and
// keeps its older ones; one that was deleted is made anew. Appends to the tail wait
// meanwhile.
func (b *Bucket) Restore(ctx context.Context, snapshot string, names ...string) error {
	err := b.restore(ctx, snapshot, names)
	if err != nil {
		return &OpError{Op: "restore", Bucket: b.name, Err: err}
	}
	return nil
}

func (b *Bucket) restore(ctx context.Context, snapshot string, names []string) error {
	if snapshot == "" {
		return errors.New("the name of the snapshot is empty")
	}
	p, err := b.s.pin()
	if err != nil {
		return err
	}
	defer b.s.unpin(p)
	b.s.appending.Lock()
	defer b.s.appending.Unlock()
	for range mostAttempts {
		planned, err := b.planRestore(ctx, snapshot, names)
		if err != nil {
			return noSnapshot(err)
		}
		whole := len(names) == 0
		ns := namespaceOf(b.name)
		err = b.s.update(ctx, func(t *Txn) error {
			t.hooks = append(t.hooks, icecat.AsPlanned(ns, snapshot, planned, whole))
			if whole {
				if err := b.restoreMetadata(t, snapshot); err != nil {
					return err
				}
			}
			for _, name := range slices.Sorted(maps.Keys(planned)) {
				if err := t.restore(tableName{ns, name}, planned[name]); err != nil {
					return &OpError{Op: "restore", Bucket: b.name, Table: name, Err: err}
				}
			}
			return nil
		})
		if err == nil || !errors.Is(err, icecat.ErrReplan) && !errors.Is(err, errRestage) && !errors.Is(err, ErrDamaged) {
			return err
		}
		if _, gone := b.planRestore(ctx, snapshot, names); gone != nil || errors.Is(err, ErrDamaged) {
			return cmp.Or(noSnapshot(gone), err) // others deleted the snapshot, and perhaps its files
		}
	}
	return ErrConflict
}

// planRestore returns the tables that are to be restored, as the snapshot has them;
// one that is to be deleted has no location.
func (b *Bucket) planRestore(ctx context.Context, snapshot string, names []string) (map[string]icecat.Listed, error) {
	ns := namespaceOf(b.name)
	planned := map[string]icecat.Listed{}
	for _, name := range names {
		l, err := b.s.cat.GetAt(ctx, ns, snapshot, name)
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", name, noSnapshot(err))
		}
		planned[name] = l
	}
	if len(names) > 0 {
		return planned, nil
	}
	changed, err := b.s.cat.Changed(ctx, ns, snapshot)
	if err != nil {
		return nil, err
	}
	for _, name := range changed {
		planned[name] = icecat.Listed{}
	}
	for _, e := range b.s.withTail() {
		if e.Namespace == ns {
			planned[e.Name] = icecat.Listed{}
		}
	}
	return planned, b.s.cat.ListAt(ctx, ns, snapshot, func(l icecat.Listed) bool {
		if _, ok := planned[l.Name]; ok {
			planned[l.Name] = l
		}
		return true
	})
}

func (b *Bucket) restoreMetadata(t *Txn, snapshot string) error {
	all, err := b.Snapshots(t.ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(s SnapshotInfo) bool { return s.Name == snapshot })
	if at < 0 {
		return errNoSnapshot
	}
	return t.ChangeMetadata(b.name, "", MetadataChange{Set: all[at].Metadata, Replace: true})
}

// restore makes a table what a snapshot lists, nothing if that has no location.
func (t *Txn) restore(n tableName, l icecat.Listed) error {
	c, err := t.of(n)
	lost := errors.Is(err, ErrDamaged)
	if err != nil && !lost {
		return err
	}
	if l.Location == "" {
		if c.cur != nil || lost { // else somebody else deleted it
			c.add(deleteStep{})
		}
		return nil
	}
	was, err := t.s.cat.LoadAt(t.ctx, n.Namespace, n.Name, l.Location)
	if err == nil {
		c.add(&restoreStep{was: was, meta: l.Metadata, uuid: uuid.NewString(), location: t.s.cat.NewLocation()})
	}
	return err
}

// restoreStep gives a table the rows, columns and properties that it had.
type restoreStep struct {
	was            *table.Table
	meta           Metadata
	uuid, location string // for a table that is not there any more

	copied *copiedFiles // of a table of another store, else nil
}

func (r *restoreStep) stage(_ context.Context, st *staging, cur *table.Table) (_ table.Metadata, err error) {
	if r.copied != nil {
		if base := r.copied.base; base != nil && !st.lost && (cur == nil && *base != "" || cur != nil && *base != cur.MetadataLocation()) {
			return nil, fmt.Errorf("%w: the table was changed while it was copied", ErrConflict)
		}
		st.info.CopyOf = r.copied.from.key(r.was.MetadataLocation())
	} else if cur != nil && cur.MetadataLocation() == r.was.MetadataLocation() {
		return nil, errNothing
	}
	was := r.was.Metadata()
	st.info.Updated, st.info.Metadata = st.now, r.meta
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
	return r.sameRows(st, now)
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
	schema, order := *was.CurrentSchema(), was.SortOrder()
	ups := []table.Update{
		table.NewAddSchemaUpdate(&schema), table.NewSetCurrentSchemaUpdate(-1),
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
		return strings.HasPrefix(k, tailProperties) || strings.HasPrefix(k, arrowProperties) || icecat.IsMetadata(k) || k == "format-version"
	}
	set := iceberg.Properties{}
	for k, v := range was.Properties() {
		if !stays(k) {
			set[k] = v
		}
	}
	if put, ok := was.Properties()[arrowProperty(was.CurrentSchema().ID)]; ok {
		set[arrowProperty(now.CurrentSchema().ID)] = put
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
func (r *restoreStep) sameRows(st *staging, now table.Metadata) (_ table.Metadata, err error) {
	had, id, added := r.was.CurrentSnapshot(), rand.Int64(), int64(0)
	summary := &table.Summary{Operation: table.OpDelete, Properties: iceberg.Properties{"total-records": "0", "total-data-files": "0", "total-files-size": "0"}}
	var manifests []iceberg.ManifestFile
	if had != nil {
		if r.copied != nil {
			manifests, added, err = r.copied.manifests(st, now, had, id)
		} else {
			manifests, err = had.Manifests(st.io)
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
		SnapshotID: id, SequenceNumber: now.LastSequenceNumber() + 1, TimestampMs: st.now.UnixMilli(),
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
	w, err := st.io.Create(s.ManifestList)
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
