package tables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// Backup copies buckets to another store, which must contain only backups of this store. If buckets is empty, Backup
// copies all buckets. The other store keeps the backup as a snapshot of each bucket, with the given name. Backup sends
// only files whose content is not in an earlier backup.
//
// An interrupted backup is not listed; the next backup resumes it. Backup copies nothing and returns an error that
// wraps ErrExists in three cases: the other store already has a backup of that name; it has a backup of an unrelated
// store; or in that store, one of these buckets has a table that is not from a backup or has changed since. A store
// also counts as related if it was restored from the other store, or if it is a copy of the store that was backed up
// there. To delete a backup, delete its snapshots.
func (s *Store) Backup(ctx context.Context, to *Store, name string, buckets ...string) ([]CopiedTable, error) {
	return s.copyTo(ctx, "backup", to, buckets, func(c *copier, namespaces []string) error { return c.backup(ctx, name, namespaces) })
}

func (c *copier) backup(ctx context.Context, name string, namespaces []string) error {
	if err := checkName("snapshot", name); err != nil {
		return err
	}
	if name == "" || strings.HasPrefix(name, tempSnapshotPrefix) { // Backups hides snapshots with this prefix
		return &ArgumentError{fmt.Errorf("the backup needs a name that does not begin with %q", tempSnapshotPrefix)}
	}
	existing, err := c.to.backups(ctx)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		if slices.ContainsFunc(existing, func(b SnapshotInfo) bool { return b.Name == name && b.Bucket == bucketOf(ns) }) {
			return fmt.Errorf("backup %q %w: choose another name", name, ErrExists)
		}
		if err := c.to.checkOnlyCopies(ctx, ns); err != nil {
			return err
		}
	}
	if err := c.claimBackups(ctx); err != nil {
		return err
	}
	for _, ns := range namespaces {
		if err := c.copyBucket(ctx, ns); err != nil {
			return err
		}
		if err := copyProperty(ctx, c.to.cat, icecat.RulesProperty, c.to.cat, backupRulesProperty(name), ns); err != nil {
			return err
		}
	}
	_, err = c.to.snapshot(ctx, namespaces, name)
	return err
}

// claimBackups records that the destination has backups of the source, or returns an error if it has backups of an
// unrelated store.
func (c *copier) claimBackups(ctx context.Context) error {
	origins, err := c.from.cat.Origins(ctx)
	if err != nil {
		return err
	}
	existing, err := c.to.cat.Origins(ctx)
	if err != nil {
		return err
	}
	origins = append(origins, c.from.cat.ID())
	if len(existing) > 0 && !slices.ContainsFunc(existing, func(id string) bool { return slices.Contains(origins, id) }) {
		return fmt.Errorf("a backup of another store %w in %s: back up to another directory", ErrExists, c.to.dir)
	}
	return c.to.cat.AddOrigins(ctx, c.from.cat.ID())
}

// checkOnlyCopies returns an error if ns has a table that is not an unchanged copy: a backup would replace the table.
func (k *keeper) checkOnlyCopies(ctx context.Context, ns string) error {
	if err := k.foldTails(ctx, ns); err != nil {
		return err
	}
	for info, err := range k.infos(ctx, bucketOf(ns), new(Filter)) {
		origin, location := "", ""
		if err == nil {
			location, err = k.cat.Location(ctx, ns, info.Name)
		}
		if err == nil {
			origin, err = k.cat.CopyOf(ctx, location)
		}
		if err == nil && origin == "" {
			err = fmt.Errorf("table %q of bucket %q %w in %s, but it is not from a backup or has changed since: back up to another directory", info.Name, bucketOf(ns), ErrExists, k.dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// backupRulesProperty returns the key of the namespace property that stores a bucket's rules for the backup with the
// given name. The backup's snapshots do not contain rules.
func backupRulesProperty(name string) string { return icecat.RulesProperty + "@" + name }

// RestoreFrom restores buckets, with their tables, metadata and rules, from a backup in another store, in one commit
// per bucket. If buckets is empty, RestoreFrom restores all buckets in the backup. It deletes tables that are not in
// the backup and keeps tables that are intact and have not changed since. It recreates all other tables, without older
// versions, and fetches only files that are missing or damaged.
func (s *Store) RestoreFrom(ctx context.Context, from *Store, name string, buckets ...string) ([]CopiedTable, error) {
	return s.restoreFrom(ctx, from, name, buckets, nil)
}

// RestoreTablesFrom is like RestoreFrom, but restores only the given tables of one bucket, and not the bucket's
// metadata and rules. If one of the tables is not in the backup, RestoreTablesFrom changes nothing.
func (s *Store) RestoreTablesFrom(ctx context.Context, from *Store, name, bucket string, names ...string) ([]CopiedTable, error) {
	return s.restoreFrom(ctx, from, name, []string{bucket}, append([]string{}, names...))
}

func (s *Store) restoreFrom(ctx context.Context, from *Store, name string, buckets, onlyTables []string) ([]CopiedTable, error) {
	c := &copier{from: from.orUnopened().keeper, to: s.orUnopened().keeper, snapshot: name, rulesProperty: backupRulesProperty(name), restore: true, onlyTables: onlyTables}
	err := c.run("restore from", func() error {
		backups, err := c.from.backups(ctx)
		exists := false
		for _, b := range backups {
			if err == nil && b.Name == name && Buckets(buckets).has(b.Bucket) {
				exists = true
				err = c.copyBucket(ctx, namespaceOf(b.Bucket))
			}
		}
		if err == nil && !exists {
			err = &notFoundError{fmt.Sprintf("backup %q does not exist", name)}
		}
		if err != nil || len(buckets) > 0 {
			return err
		}
		return c.passOrigins(ctx) // so that s can add backups to the same store
	})
	return c.results, err
}

// Backups returns the backups in this store, oldest first. A backup has one element for each of its buckets.
func (s *Store) Backups(ctx context.Context) (backups []SnapshotInfo, _ error) {
	return s.orUnopened().backups(ctx)
}

func (s *core) backups(ctx context.Context) (backups []SnapshotInfo, _ error) {
	for b, err := range s.buckets(ctx) {
		if err != nil {
			return nil, err
		}
		snapshots, err := s.snapshots(ctx, b)
		if err != nil {
			return nil, err
		}
		backups = append(backups, snapshots...)
	}
	backups = slices.DeleteFunc(backups, func(b SnapshotInfo) bool { return strings.HasPrefix(b.Name, tempSnapshotPrefix) })
	slices.SortStableFunc(backups, func(a, b SnapshotInfo) int { return a.Time.Compare(b.Time) })
	return backups, nil
}
