package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrNoSnapshot means that a namespace has no snapshot of that name.
var ErrNoSnapshot = fmt.Errorf("snapshot not found (%w)", fs.ErrNotExist)

// Snapshot is a named state of a namespace. It pins one metadata location per table, in rows of the database. So taking
// a snapshot commits nothing to the tables, and the snapshot survives their deletion. Iceberg's tags are in a table's
// metadata, so they would disappear with the table. For a metadata location that only snapshots pin, Sweep keeps only
// the files of the newest version.
type Snapshot struct {
	Name     string
	Created  time.Time
	Tables   int
	Metadata map[string]any // the namespace's metadata
}

// TakeSnapshot takes a snapshot of all tables in the namespaces, in one transaction. It returns false if a namespace already has a
// snapshot with this name.
func (c *Catalog) TakeSnapshot(ctx context.Context, namespaces []string, name string, timestamp time.Time) (ok bool, err error) {
	err = c.inTx(ctx, func(w *transaction) {
		for _, ns := range namespaces {
			w.takeSnapshot(ns, name, timestamp)
		}
	})
	if errors.Is(err, errSnapshotExists) {
		return false, nil
	}
	return err == nil, err
}

var errSnapshotExists = errors.New("a snapshot with this name already exists")

func (w *transaction) takeSnapshot(namespace, name string, timestamp time.Time) {
	meta, err := json.Marshal(w.namespaceMetadata(namespace))
	w.err = cmp.Or(w.err, err)
	if w.exec(`INSERT INTO partd_snapshots VALUES (?,?,?,0,?) ON CONFLICT DO NOTHING`, namespace, name, timestamp.UnixMicro(), string(meta)) == 0 {
		w.err = cmp.Or(w.err, errSnapshotExists)
	}
	n := w.exec(insertPins, namespace, name)
	w.exec(`UPDATE partd_snapshots SET tables=? WHERE namespace=? AND snapshot=?`, n, namespace, name)
}

// Snapshots returns a namespace's snapshots, oldest first.
func (c *Catalog) Snapshots(ctx context.Context, namespace string) (snapshots []Snapshot, err error) {
	err = query(ctx, c.reads, func(rows *sql.Rows) error {
		var s Snapshot
		var micros int64
		var meta string
		err := rows.Scan(&s.Name, &micros, &s.Tables, &meta)
		if err != nil {
			return err
		}
		if s.Metadata, err = ParseMetadata([]byte(meta)); err != nil {
			return fmt.Errorf("decode the metadata of snapshot %q: %w", s.Name, err)
		}
		s.Created = time.UnixMicro(micros).UTC()
		snapshots = append(snapshots, s)
		return nil
	}, `SELECT snapshot, made_us, tables, metadata FROM partd_snapshots WHERE namespace=? ORDER BY made_us, snapshot`, namespace)
	return snapshots, err
}

// DropSnapshots deletes a namespace's snapshot, or all its snapshots if name is nil. Sweep later removes the files that
// only these snapshots needed.
func (c *Catalog) DropSnapshots(ctx context.Context, namespace string, name *string) error {
	return c.inTx(ctx, func(w *transaction) {
		for _, t := range []string{"partd_snapshots", "partd_snapshot_tables"} {
			w.exec(`DELETE FROM `+t+` WHERE namespace=?1 AND (snapshot=?2 OR ?2 IS NULL)`, namespace, name)
		}
	})
}

// ListAt is like List, but lists the tables of a snapshot. If the snapshot is dropped meanwhile, ListAt returns an error, because f
// may not have received all tables.
func (c *Catalog) ListAt(ctx context.Context, namespace, snapshot string, f func(Listed) bool) error {
	if err := c.pages(ctx, f, selectPins+` AND name>? ORDER BY name LIMIT ?`, namespace, snapshot); err != nil {
		return err
	}
	return c.requireSnapshot(ctx, namespace, snapshot)
}

// GetAt is like Get, but for a table of a snapshot.
func (c *Catalog) GetAt(ctx context.Context, namespace, snapshot, name string) (Listed, error) {
	l, err := c.queryOne(ctx, selectPins+` AND name=?`, namespace, snapshot, name)
	if errors.Is(err, ErrNotFound) {
		err = cmp.Or(c.requireSnapshot(ctx, namespace, snapshot), err)
	}
	return l, err
}

func (c *Catalog) requireSnapshot(ctx context.Context, namespace, snapshot string) error {
	rows, err := c.strings(ctx, `SELECT snapshot FROM partd_snapshots WHERE namespace=? AND snapshot=?`, namespace, snapshot)
	if err == nil && len(rows) == 0 {
		err = ErrNoSnapshot
	}
	return err
}

// ChangedSince returns the names of the tables that were changed, deleted or created since a snapshot.
func (c *Catalog) ChangedSince(ctx context.Context, namespace, snapshot string) ([]string, error) {
	return c.strings(ctx, selectChanged, namespace, snapshot)
}

// CheckPlan returns a hook for a commit that restores a snapshot. The hook fails if the snapshot no longer contains the planned tables.
// If allTables is true, it also fails if other tables differ from the snapshot.
func CheckPlan(namespace, snapshot string, planned map[string]Listed, allTables bool) TxHook {
	return func(w *transaction) {
		isPinned := map[string]bool{}
		for _, p := range w.strings(`SELECT metadata_location || '
' || name FROM partd_snapshot_tables WHERE namespace=? AND snapshot=?`, namespace, snapshot) {
			isPinned[p] = true
		}
		for name, l := range planned {
			if w.err == nil && l.Location != "" && !isPinned[l.Location+"\n"+name] {
				w.err = errReplan
			}
		}
		if !allTables {
			return
		}
		for _, name := range w.strings(selectChanged, namespace, snapshot) {
			if _, ok := planned[name]; !ok {
				w.err = errReplan
			}
		}
	}
}

// errReplan does not wrap table.ErrCommitFailed, because a retry of the same commit would fail again.
var errReplan = fmt.Errorf("%w since the restore was planned", ErrReplan)

// ErrReplan means that a snapshot, or a table in it, has changed.
var ErrReplan = errors.New("the bucket or its snapshot was changed")

// addPinned adds the files that only snapshots refer to.
func (c *Catalog) addPinned(ctx context.Context, refs references) error {
	locations, err := c.strings(ctx, `SELECT DISTINCT metadata_location FROM partd_snapshot_tables
		EXCEPT SELECT metadata_location FROM iceberg_tables`)
	if err != nil {
		return err
	}
	for _, location := range locations {
		if refs.has(location) {
			continue
		}
		t, err := c.LoadAt(ctx, "", "", location)
		if err == nil {
			err = refs.addNewest(t)
		}
		if err == nil {
			continue
		}
		// Ignore the error if the snapshots have just been deleted, because then their files may have been removed.
		snapshots, err2 := c.strings(ctx, `SELECT snapshot FROM partd_snapshot_tables WHERE metadata_location=? LIMIT 1`, location)
		if err2 != nil || len(snapshots) > 0 {
			return errors.Join(err, err2)
		}
	}
	return nil
}
