package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Backup copies a bucket, or all for nil, to another store, which is for backups of this
// one, and gives their state there a name, as one snapshot of all of them. What the store
// has of an earlier backup is not sent again: nothing of tables that did not change, and
// of others the files alone that are new, by their content.
//
// A backup that was stopped has no name, so that no list shows it; the next one goes on
// with what it left. The error wraps ErrExists if there is a backup of the name. A backup
// is deleted as any snapshot is. Where the other store has a table of its own in such a
// bucket, nothing is done, and the error wraps ErrExists, too.
func (s *Store) Backup(ctx context.Context, to *Store, name string, bucket *string) ([]CopiedTable, error) {
	return s.copyTo(ctx, "backup", to, bucket, func(c *copying, buckets []*Bucket) error {
		if err := checkName("snapshot", name); err != nil || name == "" {
			return errors.Join(err, errors.New("the backup needs a name"))
		}
		all, err := to.Backups(ctx)
		if err != nil {
			return err
		}
		buckets = slices.Clone(buckets) // those of the other store
		for i, b := range buckets {
			if slices.ContainsFunc(all, func(i SnapshotInfo) bool { return i.Name == name && i.Bucket == b.name }) {
				return fmt.Errorf("backup %q %w: choose another name", name, ErrExists)
			}
			buckets[i] = to.Bucket(b.name)
			if err := buckets[i].onlyCopies(ctx); err != nil {
				return err
			}
		}
		for _, b := range buckets {
			if err := c.bucket(ctx, b.name); err != nil {
				return err
			}
			if err := copyProperty(ctx, to, rulesProperty, to, rulesOfBackup(name), namespaceOf(b.name)); err != nil {
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
			loc, err = b.s.cat.Location(ctx, namespaceOf(b.name), info.Name)
		}
		if err == nil {
			of, err = b.s.cat.CopyOf(ctx, loc)
		}
		if err == nil && of == "" {
			err = fmt.Errorf("table %q of bucket %q %w in %s, and is of no backup, or was changed since: back up to another directory", info.Name, b.name, ErrExists, b.s.dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rulesOfBackup is the property that keeps a bucket's rules, which are in no snapshot.
func rulesOfBackup(name string) string { return rulesProperty + "@" + name }

// RestoreFrom makes buckets, or the one named, what they were in a backup, which is in
// another store: each with its tables, metadata and rules, in one commit. Tables made
// since are deleted; those that did not change since stay as they are, and others are
// made anew, without their older versions; so are those of which Verify finds a file
// damaged. Files that are here, and in order, are not fetched.
func (s *Store) RestoreFrom(ctx context.Context, from *Store, name string, bucket *string) ([]CopiedTable, error) {
	c := &copying{from: from, to: s, snapshot: name, rules: rulesOfBackup(name), restore: true}
	err := c.run("restore from", func() error {
		all, err := from.Backups(ctx)
		found := false
		for _, i := range all {
			if err == nil && i.Name == name && (bucket == nil || *bucket == i.Bucket) {
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
