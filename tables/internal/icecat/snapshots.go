package icecat

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrNoSnapshot says that there is no such snapshot of a namespace.
var ErrNoSnapshot = fmt.Errorf("no such snapshot (%w)", fs.ErrNotExist)

// A snapshot of a namespace pins one location of metadata for each table, in rows:
// it costs no commit to the tables, and stays when they are deleted, as tags in
// their metadata would not. Sweep keeps what the pinned metadata has as its newest
// version, and nothing older.

// Snapshot is a named state of a namespace.
type Snapshot struct {
	Name     string
	Made     time.Time
	Tables   int
	Metadata map[string]any // of the namespace
}

// TakeSnapshot makes a snapshot of all tables of some namespaces as they are, in one
// transaction. It reports false where one of them has a snapshot of the name.
func (c *Catalog) TakeSnapshot(ctx context.Context, namespaces []string, name string, at time.Time) (made bool, err error) {
	err = c.inTx(ctx, func(tx *sql.Tx) error {
		for _, ns := range namespaces {
			if err := takeSnapshot(ctx, tx, ns, name, at); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errTaken) {
		return false, nil
	}
	return err == nil, err
}

var errTaken = errors.New("there is a snapshot of the name")

func takeSnapshot(ctx context.Context, tx *sql.Tx, namespace, name string, at time.Time) error {
	m, err := namespaceMetadata(ctx, tx, namespace)
	if err != nil {
		return err
	}
	meta, err := json.Marshal(m)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO partd_snapshots VALUES (?,?,?,0,?) ON CONFLICT DO NOTHING`, namespace, name, at.UnixMicro(), string(meta))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return errTaken
	}
	if res, err = tx.ExecContext(ctx, insertPins, namespace, name); err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE partd_snapshots SET tables=? WHERE namespace=? AND snapshot=?`, n, namespace, name)
	return err
}

// Snapshots returns the snapshots of a namespace, oldest first.
func (c *Catalog) Snapshots(ctx context.Context, namespace string) (all []Snapshot, err error) {
	rows, err := c.reads.QueryContext(ctx, `SELECT snapshot, made_us, tables, metadata FROM partd_snapshots WHERE namespace=? ORDER BY made_us, snapshot`, namespace)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err below says what went wrong
	for rows.Next() {
		var s Snapshot
		var at int64
		var meta string
		if err := rows.Scan(&s.Name, &at, &s.Tables, &meta); err != nil {
			return nil, err
		}
		if s.Metadata, err = ParseMetadata([]byte(meta)); err != nil {
			return nil, fmt.Errorf("the catalog: metadata of snapshot %q: %w", s.Name, err)
		}
		s.Made = time.UnixMicro(at).UTC()
		all = append(all, s)
	}
	return all, rows.Err()
}

// DropSnapshots deletes snapshots of a namespace: one, or all if the name is nil.
// What it pinned is left to Sweep.
func (c *Catalog) DropSnapshots(ctx context.Context, namespace string, name *string) error {
	return c.inTx(ctx, func(tx *sql.Tx) error {
		for _, t := range []string{"partd_snapshots", "partd_snapshot_tables"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+t+` WHERE namespace=?1 AND (snapshot=?2 OR ?2 IS NULL)`, namespace, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// ListAt is List for the tables of a snapshot.
func (c *Catalog) ListAt(ctx context.Context, namespace, snapshot string, f func(Listed) bool) error {
	for after := ""; ; {
		page, err := c.listed(ctx, selectPins+` AND name>? ORDER BY name LIMIT ?`, namespace, snapshot, after, listPage)
		if err != nil {
			return err
		}
		if after == "" && len(page) == 0 {
			return c.hasSnapshot(ctx, namespace, snapshot)
		}
		for _, l := range page {
			if !f(l) {
				return nil
			}
		}
		if len(page) < listPage {
			return nil
		}
		after = page[len(page)-1].Name
	}
}

// GetAt is Get for a table of a snapshot.
func (c *Catalog) GetAt(ctx context.Context, namespace, snapshot, name string) (Listed, error) {
	page, err := c.listed(ctx, selectPins+` AND name=?`, namespace, snapshot, name)
	if err == nil && len(page) == 0 {
		if err = c.hasSnapshot(ctx, namespace, snapshot); err == nil {
			err = ErrNotFound
		}
	}
	if err != nil {
		return Listed{}, err
	}
	return page[0], nil
}

func (c *Catalog) hasSnapshot(ctx context.Context, namespace, snapshot string) error {
	found, err := c.strings(ctx, `SELECT snapshot FROM partd_snapshots WHERE namespace=? AND snapshot=?`, namespace, snapshot)
	if err == nil && len(found) == 0 {
		err = ErrNoSnapshot
	}
	return err
}

// Changed returns the names of the tables that are not as in a snapshot: changed,
// deleted or made since.
func (c *Catalog) Changed(ctx context.Context, namespace, snapshot string) ([]string, error) {
	return c.strings(ctx, selectChanged, namespace, snapshot)
}

// AsPlanned is a condition of a commit that restores a snapshot: there still is what
// it restores, and other tables are as in it.
func AsPlanned(namespace, snapshot string, planned map[string]Listed, whole bool) TxHook {
	return func(ctx context.Context, tx *sql.Tx) error {
		pinned, err := stringsOf(ctx, tx, `SELECT metadata_location || '
' || name FROM partd_snapshot_tables WHERE namespace=? AND snapshot=?`, namespace, snapshot)
		if err != nil {
			return err
		}
		have := make(map[string]bool, len(pinned))
		for _, p := range pinned {
			have[p] = true
		}
		for name, l := range planned {
			if l.Location != "" && !have[l.Location+"\n"+name] {
				return errReplan
			}
		}
		if !whole {
			return nil
		}
		changed, err := stringsOf(ctx, tx, selectChanged, namespace, snapshot)
		if err != nil {
			return err
		}
		for _, name := range changed {
			if _, ok := planned[name]; !ok {
				return errReplan
			}
		}
		return nil
	}
}

// errReplan wraps ErrReplan alone: to commit the same again would be no use.
var errReplan = fmt.Errorf("%w since it was looked at", ErrReplan)

// ErrReplan says that a snapshot, or a table that it has, is another one.
var ErrReplan = errors.New("the bucket or its snapshot was changed")

// pinned adds what snapshots pin that no table has now.
func (c *Catalog) pinned(ctx context.Context, used references) error {
	all, err := c.strings(ctx, `SELECT DISTINCT metadata_location FROM partd_snapshot_tables
		EXCEPT SELECT metadata_location FROM iceberg_tables`)
	if err != nil {
		return err
	}
	for _, loc := range all {
		if used.has(loc) {
			continue
		}
		t, err := c.LoadAt(ctx, "", "", loc)
		if err == nil {
			err = used.addNewest(t)
		}
		if err == nil {
			continue
		}
		// The snapshots that had it may have been deleted, and its files swept.
		still, again := c.strings(ctx, `SELECT snapshot FROM partd_snapshot_tables WHERE metadata_location=? LIMIT 1`, loc)
		if again != nil || len(still) > 0 {
			return errors.Join(err, again)
		}
	}
	return nil
}
