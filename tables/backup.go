package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Backup copies buckets, or all of them if none is named, to another store that holds
// only backups of this one, and names the result as one snapshot of all the buckets. It
// sends only what earlier backups lack: nothing for tables that have not changed, and
// only new files, compared by content, for the others.
//
// An interrupted backup has no name, so no list shows it; the next one continues from
// what it left. The error wraps ErrExists if a backup of that name exists. Delete a backup
// like any snapshot. If the other store has a table of its own in one of these buckets,
// Backup copies nothing, and the error wraps ErrExists as well.
func (s *Store) Backup(ctx context.Context, to *Store, name string, buckets ...string) ([]CopiedTable, error) {
	s, to = s.made(), to.made()
	return s.copyTo(ctx, "backup", to, buckets, func(c *copying, buckets []*Bucket) error {
		if err := checkName("snapshot", name); err != nil || name == "" {
			return errors.Join(err, errors.New("the backup needs a name"))
		}
		all, err := to.Backups(ctx)
		if err != nil {
			return err
		}
		buckets = slices.Clone(buckets) // those of the other store
		for i, b := range buckets {
			if slices.ContainsFunc(all, func(i SnapshotInfo) bool { return i.Name == name && i.Bucket == b.Name() }) {
				return fmt.Errorf("backup %q %w: choose another name", name, ErrExists)
			}
			buckets[i] = to.Bucket(b.Name())
			if err := buckets[i].onlyCopies(ctx); err != nil {
				return err
			}
		}
		for _, b := range buckets {
			if err := c.bucket(ctx, b.Name()); err != nil {
				return err
			}
			if err := copyProperty(ctx, to, rulesProperty, to, rulesOfBackup(name), namespaceOf(b.Name())); err != nil {
				return err
			}
		}
		_, err = to.snapshot(ctx, buckets, name)
		return err
	})
}

// onlyCopies is nil if all tables of a bucket are copies, so that none is lost to a backup.
func (b *Bucket) onlyCopies(ctx context.Context) error {
	if err := b.foldTails(ctx); err != nil {
		return err
	}
	for info, err := range b.Tables(ctx, nil) {
		of, loc := "", ""
		if err == nil {
			loc, err = b.store().cat.Location(ctx, namespaceOf(b.Name()), info.Name)
		}
		if err == nil {
			of, err = b.store().cat.CopyOf(ctx, loc)
		}
		if err == nil && of == "" {
			err = fmt.Errorf("table %q of bucket %q %w in %s, and is of no backup, or was changed since: back up to another directory", info.Name, b.Name(), ErrExists, b.store().dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rulesOfBackup is the property that keeps a bucket's rules, which are in no snapshot.
func rulesOfBackup(name string) string { return rulesProperty + "@" + name }

// RestoreFrom makes buckets, all if none is named, what they were in a backup, which is in
// another store: each with its tables, metadata and rules, in one commit. Tables made
// since are deleted; those that did not change since stay as they are, and others are
// made anew, without their older versions; so are those of which Verify finds a file
// damaged. Files that are here, and in order, are not fetched.
func (s *Store) RestoreFrom(ctx context.Context, from *Store, name string, buckets ...string) ([]CopiedTable, error) {
	s, from = s.made(), from.made()
	c := &copying{from: from, to: s, snapshot: name, rules: rulesOfBackup(name), restore: true}
	err := c.run("restore from", func() error {
		all, err := from.Backups(ctx)
		found := false
		for _, i := range all {
			if err == nil && i.Name == name && Buckets(buckets).has(i.Bucket) {
				found = true
				err = c.bucket(ctx, i.Bucket)
			}
		}
		if err == nil && !found {
			err = &missing{fmt.Sprintf("there is no backup %q", name)}
		}
		return err
	})
	return c.done, err
}

// Backups returns what a store for backups has: for each name, a snapshot of each bucket.
func (s *Store) Backups(ctx context.Context) (all []SnapshotInfo, _ error) {
	s = s.made()
	for b, err := range s.Buckets(ctx) {
		if err != nil {
			return nil, err
		}
		some, err := s.Bucket(b).Snapshots(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	all = slices.DeleteFunc(all, func(i SnapshotInfo) bool { return strings.HasPrefix(i.Name, workName) })
	slices.SortStableFunc(all, func(a, b SnapshotInfo) int { return a.Time.Compare(b.Time) })
	return all, nil
}
