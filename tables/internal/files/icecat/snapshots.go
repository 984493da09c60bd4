package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// ErrNoSnapshot means that a namespace has no snapshot with the given name.
var ErrNoSnapshot = fmt.Errorf("snapshot not found (%w)", fs.ErrNotExist)

// Snapshot is a named state of a namespace. It pins one metadata location per table, in rows of the database. So taking
// a snapshot commits nothing to the tables, and the snapshot survives the tables' deletion. Iceberg's tags are in a
// table's metadata, so they would disappear with the table. For a metadata location that only snapshots pin, Sweep
// keeps only the newest version's files.
type Snapshot struct {
	Name     string
	Created  time.Time
	Tables   int
	Metadata map[string]any // the namespace's metadata
}

// snapshots takes, lists and drops snapshots of namespaces.
type snapshots struct {
	*database
	listings *listings
}

// TakeSnapshot takes a snapshot of all tables in the namespaces, in one transaction. It returns false if a namespace
// already has a snapshot with this name.
func (sn *snapshots) TakeSnapshot(ctx context.Context, namespaces []string, name string, timestamp time.Time) (ok bool, err error) {
	err = sn.inTx(ctx, func(t *transaction) {
		for _, ns := range namespaces {
			t.takeSnapshot(ns, name, timestamp)
		}
	})
	if errors.Is(err, errSnapshotExists) {
		return false, nil
	}
	return err == nil, err
}

var errSnapshotExists = errors.New("a snapshot with this name already exists")

func (t *transaction) takeSnapshot(namespace, name string, timestamp time.Time) {
	meta, err := json.Marshal(t.namespaceMetadata(namespace))
	t.err = cmp.Or(t.err, err)
	if t.exec(`INSERT INTO partd_snapshots VALUES (?,?,?,0,?) ON CONFLICT DO NOTHING`, namespace, name, timestamp.UnixMicro(), string(meta)) == 0 {
		t.err = cmp.Or(t.err, errSnapshotExists)
	}
	n := t.exec(insertPins, namespace, name)
	t.exec(`UPDATE partd_snapshots SET tables=? WHERE namespace=? AND snapshot=?`, n, namespace, name)
}

// Snapshots returns a namespace's snapshots, oldest first.
func (sn *snapshots) Snapshots(ctx context.Context, namespace string) (list []Snapshot, err error) {
	err = query(ctx, sn.readPool, func(rows *sql.Rows) error {
		var s Snapshot
		var micros int64
		var meta string
		err := rows.Scan(&s.Name, &micros, &s.Tables, &meta)
		if err != nil {
			return err
		}
		s.Metadata, err = ParseMetadata([]byte(meta))
		if err != nil {
			return fmt.Errorf("decode the metadata of snapshot %q: %w", s.Name, err)
		}
		s.Created = time.UnixMicro(micros).UTC()
		list = append(list, s)
		return nil
	}, `SELECT snapshot, made_us, tables, metadata FROM partd_snapshots WHERE namespace=? ORDER BY made_us, snapshot`, namespace)
	return list, err
}

// DropSnapshots deletes a namespace's snapshot, or all its snapshots if name is nil. Sweep later removes the files that
// only these snapshots needed.
func (sn *snapshots) DropSnapshots(ctx context.Context, namespace string, name *string) error {
	return sn.inTx(ctx, func(t *transaction) {
		for _, tableName := range []string{"partd_snapshots", "partd_snapshot_tables"} {
			t.exec(`DELETE FROM `+tableName+` WHERE namespace=?1 AND (snapshot=?2 OR ?2 IS NULL)`, namespace, name)
		}
	})
}

// ListAt is like List, but lists the tables in a snapshot. If the snapshot is dropped while ListAt runs, ListAt returns
// an error, because f may not have received all tables.
func (sn *snapshots) ListAt(ctx context.Context, namespace, snapshot string, f func(Listed) bool) error {
	if err := sn.listings.pages(ctx, f, selectPins+` AND name>? ORDER BY name LIMIT ?`, namespace, snapshot); err != nil {
		return err
	}
	return sn.requireSnapshot(ctx, namespace, snapshot)
}

// GetAt is like Get, but for a table in a snapshot.
func (sn *snapshots) GetAt(ctx context.Context, namespace, snapshot, name string) (Listed, error) {
	l, err := sn.listings.queryOne(ctx, selectPins+` AND name=?`, namespace, snapshot, name)
	if errors.Is(err, ErrNotFound) {
		err = cmp.Or(sn.requireSnapshot(ctx, namespace, snapshot), err)
	}
	return l, err
}

func (sn *snapshots) requireSnapshot(ctx context.Context, namespace, snapshot string) error {
	rows, err := sn.queryStrings(ctx, `SELECT snapshot FROM partd_snapshots WHERE namespace=? AND snapshot=?`, namespace, snapshot)
	if err == nil && len(rows) == 0 {
		err = ErrNoSnapshot
	}
	return err
}

// ChangedSince returns the names of the tables that were changed, deleted or created since a snapshot.
func (sn *snapshots) ChangedSince(ctx context.Context, namespace, snapshot string) ([]string, error) {
	return sn.queryStrings(ctx, selectChanged, namespace, snapshot)
}

// CheckPlan returns a hook for a restore's commit. It makes the commit fail with errReplan if a table in planned is no
// longer in the snapshot or, if allTables is true, if any other table differs from the snapshot.
func CheckPlan(namespace, snapshot string, planned map[string]Listed, allTables bool) TxHook {
	return func(t *transaction) {
		isPinned := map[string]bool{}
		selectPinned := `SELECT metadata_location || '` + stateSeparator + `' || name FROM partd_snapshot_tables WHERE namespace=? AND snapshot=?`
		for _, pin := range t.queryStrings(selectPinned, namespace, snapshot) {
			isPinned[pin] = true
		}
		for name, l := range planned {
			if t.err == nil && l.Location != "" && !isPinned[l.Location+stateSeparator+name] {
				t.err = errReplan
			}
		}
		if !allTables {
			return
		}
		for _, name := range t.queryStrings(selectChanged, namespace, snapshot) {
			if _, ok := planned[name]; !ok {
				t.err = errReplan
			}
		}
	}
}

// errReplan does not wrap table.ErrCommitFailed, because a retry of the same commit would fail again.
var errReplan = fmt.Errorf("%w since the restore was planned", ErrReplan)

// ErrReplan means that a snapshot, or a table in it, has changed.
var ErrReplan = errors.New("the bucket or its snapshot was changed")

// State is a metadata location that a table or its snapshots refer to.
type State struct {
	Name     string
	Location string
	Pinned   bool // only snapshots refer to the location, so only the newest version in the metadata is needed
}

// States returns the metadata locations that a namespace's tables and snapshots refer to, without duplicates. A table's
// current location comes first.
func (sn *snapshots) States(ctx context.Context, namespace string) (states []State, err error) {
	encoded, err := sn.queryStrings(ctx, selectStates, namespace)
	for _, s := range encoded {
		loc, name, _ := strings.Cut(s, stateSeparator)
		alive, name := name[0], name[1:]
		states = append(states, State{name, loc, alive == '0'})
	}
	return states, err
}
