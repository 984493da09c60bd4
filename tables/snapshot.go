package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// SnapshotInfo describes a snapshot of a bucket.
type SnapshotInfo struct {
	Bucket   string    `json:"bucket"`
	Name     string    `json:"name"`
	Time     time.Time `json:"time"` // when it was made, in UTC
	Tables   int       `json:"tables"`
	Metadata Metadata  `json:"metadata"` // of the bucket
}

// noSnapshot is the error for a snapshot, or a table of one, that is not there.
func noSnapshot(err error) error {
	if errors.Is(err, icecat.ErrNoSnapshot) {
		return errNoSnapshot
	}
	return notFound(err)
}

var errNoSnapshot = &missing{"there is no such snapshot of the bucket"}

// missing is an ErrNotFound that says what.
type missing struct{ text string }

func (m *missing) Error() string { return m.text }
func (m *missing) Unwrap() error { return ErrNotFound }

// Snapshot names the bucket's current state, all its tables with their versions and
// metadata, and returns the name; if name is "", that is the time. It copies nothing.
// The snapshot can be read until it is deleted, whatever is changed, compacted,
// expired or deleted in the meantime. Rows in the tail are folded first. The snapshot
// contains each put whole or not at all, and every put that this Store has acknowledged
// or others have committed. An error that wraps [ErrDamaged] still leaves a snapshot, but
// without the tail rows of damaged tables.
func (b *Bucket) Snapshot(ctx context.Context, name string) (_ string, err error) {
	defer failed(&err, "make a snapshot", b.Name(), "")
	if err := errors.Join(checkName("bucket", b.Name()), checkName("snapshot", name)); err != nil {
		return "", err
	}
	return b.store().snapshot(ctx, []*Bucket{b}, name)
}

// snapshot makes one snapshot of some buckets.
func (s *Store) snapshot(ctx context.Context, buckets []*Bucket, name string) (string, error) {
	var namespaces []string
	for _, b := range buckets {
		ns := namespaceOf(b.Name())
		there, err := s.cat.HasNamespace(ctx, ns)
		if err != nil {
			return "", err
		}
		if !there {
			return "", ErrNotFound
		}
		namespaces = append(namespaces, ns)
		// Most is folded before appends have to wait, so that they wait for little: for
		// rows that came since, so that no put is missing that another one followed.
		if err := b.foldTails(ctx); err != nil && !errors.Is(err, ErrDamaged) {
			return "", err
		}
	}
	s.commits.Appending.Lock()
	defer s.commits.Appending.Unlock()
	var damaged error
	for _, b := range buckets {
		err := b.foldTails(ctx)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return "", err
		}
		damaged = errors.Join(damaged, err)
	}
	for {
		now := time.Now()
		as := cmp.Or(name, now.UTC().Format("2006-01-02T15:04:05.000000Z"))
		made, err := s.cat.TakeSnapshot(ctx, namespaces, as, now)
		switch {
		case err != nil:
			return "", err
		case made && damaged != nil:
			return as, fmt.Errorf("there is a snapshot %q, without the rows that damaged tables have in the tail: %w", as, damaged)
		case made:
			return as, nil
		case name != "":
			return "", ErrExists
		}
		time.Sleep(time.Microsecond) // the name of this one was taken
	}
}

// foldTails folds those tables of the bucket that have rows in the tail. Of those that
// are damaged it tells at the end.
func (b *Bucket) foldTails(ctx context.Context) error {
	// The tail may have rows of tables that others renamed.
	renamed, err := b.store().cat.Unlisted(ctx, namespaceOf(b.Name()))
	if err != nil {
		return err
	}
	for _, name := range renamed {
		err := b.store().commits.Refresh(ctx, tableName{Namespace: namespaceOf(b.Name()), Name: name})
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	_, err = b.store().each(ctx, "fold", b.store().commits.WithTail(namespaceOf(b.Name())), fold)
	return err
}

// Snapshots returns the bucket's snapshots, oldest first.
func (b *Bucket) Snapshots(ctx context.Context) (all []SnapshotInfo, err error) {
	defer failed(&err, "list snapshots", b.Name(), "")
	found, err := b.store().cat.Snapshots(ctx, namespaceOf(b.Name()))
	for _, s := range found {
		all = append(all, SnapshotInfo{b.Name(), s.Name, s.Made, s.Tables, s.Metadata})
	}
	return all, err
}

// DeleteSnapshot deletes a snapshot; that it is missing is no error. Files that
// nothing else needs are left to Expire.
func (b *Bucket) DeleteSnapshot(ctx context.Context, name string) error {
	return b.deleteSnapshots(ctx, &name)
}

// DeleteSnapshots deletes all snapshots of the bucket.
func (b *Bucket) DeleteSnapshots(ctx context.Context) error { return b.deleteSnapshots(ctx, nil) }

func (b *Bucket) deleteSnapshots(ctx context.Context, name *string) (err error) {
	defer failed(&err, "delete snapshots", b.Name(), "")
	return b.store().cat.DropSnapshots(ctx, namespaceOf(b.Name()), name)
}

// pinned returns a table as the table's snapshot has it.
func (t *Table) pinned(ctx context.Context) (*table.Table, error) {
	l, err := t.bucket().store().cat.GetAt(ctx, t.name.Namespace, t.snapshot, t.name.Name)
	if err != nil {
		return nil, noSnapshot(err)
	}
	if t.location = cmp.Or(t.location, l.Location); l.Location != t.location {
		return nil, &missing{"the snapshot was deleted and made anew"}
	}
	return t.bucket().store().cat.LoadAt(ctx, t.name.Namespace, t.name.Name, l.Location)
}

// Versions returns the versions that there are, oldest first.
func (t *Table) Versions(ctx context.Context) ([]VersionInfo, error) {
	return look(ctx, t, "list the versions of", func(v *view) (all []VersionInfo, _ error) {
		for _, s := range v.t.Metadata().Snapshots() {
			i := VersionInfo{Version: Version(s.SequenceNumber), Time: time.UnixMilli(s.TimestampMs).UTC()}
			if s.Summary != nil {
				i.Operation = string(s.Summary.Operation)
			}
			i.Rows, _, _ = icecat.Totals(&s)
			i.Current = i.Version == versionOf(v.t.Metadata())
			all = append(all, i)
		}
		return all, nil
	})
}

// versionOf returns the number of a table's current snapshot.
func versionOf(meta table.Metadata) Version {
	if s := meta.CurrentSnapshot(); s != nil {
		return Version(s.SequenceNumber)
	}
	return 0
}

// snapshotOf returns the snapshot of a version.
func snapshotOf(meta table.Metadata, v Version) (*table.Snapshot, error) {
	for _, s := range meta.Snapshots() {
		if Version(s.SequenceNumber) == v {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("version %d, which may have expired: %w", v, ErrNotFound)
}
