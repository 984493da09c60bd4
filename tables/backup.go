package tables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// Backup copies buckets to another store, which must contain only backups of this store. If buckets is empty, Backup
// copies all buckets. In the other store, the backup is a snapshot of these buckets with the given name. Backup sends
// only files whose content is not in an earlier backup.
//
// An interrupted backup is not listed; the next backup resumes it. Backup copies nothing and returns an error that
// wraps ErrExists in three cases: the other store already has a backup of that name; it has a backup of an unrelated
// store; or one of these buckets there has a table that is not from a backup. A store also counts as related if it was
// restored from the other store, or if it is a copy of the store that was backed up there. To delete a backup, delete
// its snapshots.
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
		if slices.ContainsFunc(existing, func(i SnapshotInfo) bool { return i.Name == name && i.Bucket == bucketOf(ns) }) {
			return fmt.Errorf("backup %q %w: choose another name", name, ErrExists)
		}
		if err := c.to.onlyCopies(ctx, ns); err != nil {
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

// claimBackups records that the destination has backups of the source. It returns an error if the destination has
// backups of an unrelated store.
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
		return fmt.Errorf("another store's backup %w there: back up to another directory", ErrExists)
	}
	return c.to.cat.AddOrigins(ctx, c.from.cat.ID())
}

// onlyCopies returns an error if a backup would overwrite a table that is not an unchanged copy.
func (k *keeper) onlyCopies(ctx context.Context, ns string) error {
	if err := k.foldTails(ctx, ns); err != nil {
		return err
	}
	for info, err := range k.infos(ctx, bucketOf(ns), new(Filter)) {
		origin, loc := "", ""
		if err == nil {
			loc, err = k.cat.Location(ctx, ns, info.Name)
		}
		if err == nil {
			origin, err = k.cat.CopyOf(ctx, loc)
		}
		if err == nil && origin == "" {
			err = fmt.Errorf("table %q of bucket %q %w in %s, but it is not from a backup, or has changed since: back up to another directory", info.Name, bucketOf(ns), ErrExists, k.dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// backupRulesProperty names the property that holds a bucket's rules in a backup, because snapshots lack the rules.
func backupRulesProperty(name string) string { return icecat.RulesProperty + "@" + name }

// RestoreFrom restores buckets, with their tables, metadata and rules, from a backup in another store, in one commit
// per bucket. If buckets is empty, RestoreFrom restores all buckets in the backup. It deletes tables that are not in
// the backup. Tables that are intact and have not changed since the backup stay. It creates all other tables again,
// without older versions, and fetches only files that are missing or damaged.
func (s *Store) RestoreFrom(ctx context.Context, from *Store, name string, buckets ...string) ([]CopiedTable, error) {
	return s.restoreFrom(ctx, from, name, buckets, nil)
}

// RestoreTablesFrom is like RestoreFrom, but changes only the given tables of one bucket. Other tables and the bucket's
// metadata and rules stay. If one of the tables is not in the backup, RestoreTablesFrom changes nothing.
func (s *Store) RestoreTablesFrom(ctx context.Context, from *Store, name, bucket string, names ...string) ([]CopiedTable, error) {
	return s.restoreFrom(ctx, from, name, []string{bucket}, append([]string{}, names...))
}

func (s *Store) restoreFrom(ctx context.Context, from *Store, name string, buckets, only []string) ([]CopiedTable, error) {
	c := &copier{from: from.orUnopened().keeper, to: s.orUnopened().keeper, snapshot: name, rules: backupRulesProperty(name), restore: true, only: only}
	err := c.run("restore from", func() error {
		backups, err := c.from.backups(ctx)
		exists := false
		for _, i := range backups {
			if err == nil && i.Name == name && Buckets(buckets).has(i.Bucket) {
				exists = true
				err = c.copyBucket(ctx, namespaceOf(i.Bucket))
			}
		}
		if err == nil && !exists {
			err = &notFoundError{fmt.Sprintf("backup %q does not exist", name)}
		}
		if err != nil || len(buckets) > 0 {
			return err
		}
		return c.passOrigins(ctx) // s can now continue the backups
	})
	return c.results, err
}

// Backups returns the backups in this store: for each name, one snapshot per bucket.
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
	backups = slices.DeleteFunc(backups, func(i SnapshotInfo) bool { return strings.HasPrefix(i.Name, tempSnapshotPrefix) })
	slices.SortStableFunc(backups, func(a, b SnapshotInfo) int { return a.Time.Compare(b.Time) })
	return backups, nil
}
