package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// CopyTo copies buckets to another store. If buckets is empty, it copies all buckets. It copies the newest version of
// each table with its columns, settings, rules, metadata and put IDs, and the bucket's own rules and metadata, but no
// older versions or snapshots. Data files are copied unchanged; the catalog must have a checksum for each of them.
//
// All of a bucket's tables appear in the other store in one commit. To resume an interrupted CopyTo, call it again: it
// sends only data that is missing or has changed. If the other store has a table of the same name that is not an
// unchanged copy from this store, the error wraps ErrExists.
//
// Finally, CopyTo reads all rows from both stores and compares the row counts and the sums (modulo 2^128) of the rows'
// xxh3-128 hashes.
func (s *Store) CopyTo(ctx context.Context, to *Store, buckets ...string) ([]CopiedTable, error) {
	return s.copyTo(ctx, "copy", to, buckets, func(c *copier, namespaces []string) error {
		c.keepOthers = true
		if existing, err := c.to.cat.Namespaces(ctx); err != nil {
			return err
		} else if len(existing)+len(buckets) == 0 { // a copy of the whole store can continue the backups of s
			if err := c.passOrigins(ctx, c.from.cat.ID()); err != nil {
				return err
			}
		}
		for _, ns := range namespaces {
			if err := c.copyBucket(ctx, ns); err != nil {
				return err
			}
		}
		for i := range c.results {
			if err := c.verify(ctx, &c.results[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// tempSnapshotPrefix begins the names of the temporary snapshots that exist during a copy or backup.
const tempSnapshotPrefix = "partd "

// copyTo calls copyBuckets with a copier for a temporary snapshot of the buckets, which it deletes afterwards.
func (s *Store) copyTo(ctx context.Context, op string, to *Store, buckets Buckets, copyBuckets func(c *copier, namespaces []string) error) ([]CopiedTable, error) {
	c := &copier{from: s.orUnopened().keeper, to: to.orUnopened().keeper, rulesProperty: icecat.RulesProperty}
	c.snapshot = tempSnapshotPrefix + op + " to " + c.to.cat.ID()
	err := c.run(op, func() error {
		namespaces, err := buckets.namespaces(ctx, c.from.cat)
		if err != nil {
			return err
		}
		for _, ns := range namespaces {
			// An interrupted copy may have left its snapshot.
			if err := c.from.cat.DropSnapshots(ctx, ns, &c.snapshot); err != nil {
				return err
			}
		}
		if len(namespaces) == 0 {
			return &notFoundError{"the store has no buckets"}
		}
		_, err = c.from.snapshot(ctx, namespaces, c.snapshot)
		if errors.Is(err, ErrDamaged) {
			c.damaged, err = append(c.damaged, err), nil
		}
		if err == nil {
			err = copyBuckets(c, namespaces)
		}
		for _, ns := range namespaces {
			err = errors.Join(err, c.from.cat.DropSnapshots(context.WithoutCancel(ctx), ns, &c.snapshot))
		}
		return err
	})
	return c.results, err
}

// copier copies buckets from a snapshot in one store to another store.
type copier struct {
	from, to      *keeper
	snapshot      string
	rulesProperty string   // key of the source's namespace property that holds a bucket's rules
	keepOthers    bool     // neither delete nor replace tables in the destination unless they are copies from the source
	restore       bool     // reuse a file in the destination only if it is intact
	onlyTables    []string // copy only these tables, and nothing else from the bucket; nil means the whole bucket
	results       []CopiedTable
	damaged       []error // errors of skipped tables, which are damaged or have delete files
}

// run calls f. Until f returns, neither store removes files.
func (c *copier) run(op string, f func() error) (err error) {
	defer func() {
		if err != nil {
			err = &OpError{Op: op, Dir: c.from.dir, Err: err}
		}
	}()
	if c.from.dir == c.to.dir {
		return errors.New("source and destination are the same store: choose another destination")
	}
	for _, s := range []*keeper{c.from, c.to} {
		unpin, err := s.commits.Pin()
		if err != nil {
			return err
		}
		defer unpin()
	}
	err = f() // must precede the next line, because f appends to c.damaged
	return errors.Join(append(c.damaged, err)...)
}

// copyBucket copies the files of a bucket's tables and then commits all the tables together.
func (c *copier) copyBucket(ctx context.Context, ns string) error {
	bucket := bucketOf(ns)
	if err := c.to.foldTails(ctx, ns); err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	var listed []icecat.Listed
	err := c.from.cat.ListAt(ctx, ns, c.snapshot, func(l icecat.Listed) bool {
		listed = append(listed, l)
		return true
	})
	if err != nil {
		return snapshotNotFound(err)
	}
	for _, name := range c.onlyTables {
		if !slices.ContainsFunc(listed, func(l icecat.Listed) bool { return l.Name == name }) {
			return &notFoundError{fmt.Sprintf("the backup has no table %q", name)}
		}
	}
	wholeBucket := c.onlyTables == nil
	listed = slices.DeleteFunc(listed, func(l icecat.Listed) bool { return !wholeBucket && !slices.Contains(c.onlyTables, l.Name) })
	steps, inSnapshot := map[string]*restoreStep{}, map[string]bool{}
	for _, l := range listed {
		inSnapshot[l.Name] = true
		step, err := c.copyTable(ctx, l)
		if err != nil {
			err = &OpError{Op: "copy", Bucket: bucket, Table: l.Name, Err: err}
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, content.ErrDeleteFiles) {
				return err
			}
			if !c.keepOthers && !c.restore {
				err = fmt.Errorf("%w; the backup keeps the previous backup's copy of the table, if any: check all backup files with verify --dir", err)
			}
			c.damaged = append(c.damaged, err) // the other store keeps its old copy
			continue
		}
		result := CopiedTable{Bucket: bucket, Name: l.Name, Unchanged: step == nil, Rows: l.Rows}
		if step != nil {
			steps[l.Name] = step
			result.Files, result.Bytes = step.copied.Sent, step.copied.Bytes
		}
		c.results = append(c.results, result)
	}
	err = c.to.update(ctx, func(t *Txn) error {
		for name, step := range steps {
			change, err := t.change(tableName{Namespace: ns, Name: name})
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			change.Add(commit.Restores|commit.Replaces, nil, step.apply)
		}
		if !wholeBucket {
			return nil
		}
		for info, err := range c.to.infos(ctx, bucket, new(Filter)) {
			if err == nil && !c.keepOthers && !inSnapshot[info.Name] {
				err = t.Delete(bucket, info.Name)
			}
			if err != nil {
				return err
			}
		}
		return t.restoreMetadata(c.from.core, bucket, c.snapshot)
	})
	if err != nil || !wholeBucket {
		return err
	}
	return copyProperty(ctx, c.from.cat, c.rulesProperty, c.to.cat, icecat.RulesProperty, ns)
}

// copyTable copies a table's files and returns the step that commits the copy. If an earlier copy is up to date,
// copyTable returns nil.
func (c *copier) copyTable(ctx context.Context, l icecat.Listed) (*restoreStep, error) {
	base, err := c.to.cat.Location(ctx, l.Namespace, l.Name)
	if err != nil && !errors.Is(err, icecat.ErrNotFound) {
		return nil, err
	}
	if base != "" {
		toOrigin, err := c.to.cat.CopyOf(ctx, base)
		if err != nil {
			return nil, err
		}
		fromOrigin, err := c.from.cat.CopyOf(ctx, l.Location)
		isSame := toOrigin == originOf(c.from.cat, l.Location) || fromOrigin == originOf(c.to.cat, base)
		switch {
		case !isSame || err != nil:
		case c.restore:
			isSame, err = intact(ctx, c.to.commits, l.Namespace, l.Name, base)
		default:
			isSame, err = content.IsComplete(ctx, c.to.cat, l.Namespace, l.Name, base)
		}
		if err != nil || isSame {
			return nil, err
		}
		if c.keepOthers && !strings.HasPrefix(toOrigin, originOf(c.from.cat, "")) {
			return nil, fmt.Errorf("the table %w in the destination, but is another table or a changed copy: delete it first, or copy to another store", ErrExists)
		}
	}
	step, err := newRestoreStep(ctx, c.from.cat, c.to.cat, l)
	if err != nil {
		return nil, err
	}
	step.copied, step.copyOf = content.NewCopy(c.from.cat, c.to.cat, c.restore), originOf(c.from.cat, l.Location)
	if c.keepOthers {
		step.base = &base
	}
	if s := step.source.CurrentSnapshot(); s != nil {
		err = step.copied.Files(ctx, s, step.location+"/data")
	}
	return step, err
}

// originOf returns a name for the metadata at location that is unique across stores: it begins with the catalog's ID.
func originOf(c *icecat.Catalog, location string) string { return c.ID() + " " + location }

// verify returns an error if a copied table's rows differ from the original's. It sets t.Rows and t.Checksum.
func (c *copier) verify(ctx context.Context, t *CopiedTable) error {
	want, err := sumRows(ctx, &tableReader{core: c.from.core, bucket: t.Bucket, name: t.Name}, AtSnapshot(c.snapshot))
	if err != nil {
		return err
	}
	got, err := sumRows(ctx, &tableReader{core: c.to.core, bucket: t.Bucket, name: t.Name}, nil)
	if err == nil && !got.Equals(want) {
		err = &OpError{Op: "verify the copy of", Bucket: t.Bucket, Table: t.Name, Err: fmt.Errorf(
			"the original has %d rows with checksum %s, but the copy has %d rows with checksum %s: delete the copy, and copy again", want.Rows, want, got.Rows, got)}
	}
	t.Rows, t.Checksum = want.Rows, want.String()
	return err
}

func sumRows(ctx context.Context, t *tableReader, at At) (*content.RowSum, error) {
	t, err := t.at(ctx, at)
	if err != nil {
		return nil, err
	}
	r, err := t.scan(ctx, nil)
	return content.SumRows(ctx, r, err)
}

// passOrigins adds the source's origins (the IDs of the stores that it is a copy of) and the given IDs to the
// destination's origins. The destination must have received all tables of the source.
func (c *copier) passOrigins(ctx context.Context, ids ...string) error {
	origins, err := c.from.cat.Origins(ctx)
	if err != nil {
		return err
	}
	return c.to.cat.AddOrigins(ctx, append(origins, ids...)...)
}

// copyProperty copies the property sourceKey of a namespace in source to the namespace's property destKey in dest.
func copyProperty(ctx context.Context, source *icecat.Catalog, sourceKey string, dest *icecat.Catalog, destKey, ns string) error {
	text, err := source.Property(ctx, ns, sourceKey)
	if err != nil {
		return err
	}
	return dest.EditProperty(ctx, ns, destKey, func(string) (string, error) { return text, nil })
}
