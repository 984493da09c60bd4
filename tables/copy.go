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
// Finally, CopyTo reads all rows from both stores, and compares the row counts, and the sums (modulo 2^128) of the
// rows' xxh3-128 hashes.
func (s *Store) CopyTo(ctx context.Context, to *Store, names ...string) ([]CopiedTable, error) {
	return s.copyTo(ctx, "copy", to, names, func(c *copier, namespaces []string) error {
		c.keepOthers = true
		if existing, err := c.to.cat.Namespaces(ctx); err != nil {
			return err
		} else if len(existing)+len(names) == 0 { // the copy can continue backups of s
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

// tempSnapshotPrefix is the prefix of the names of the temporary snapshots that exist during a copy.
const tempSnapshotPrefix = "partd "

// copyTo calls do with a copier, while a temporary snapshot of the buckets exists.
func (s *Store) copyTo(ctx context.Context, op string, to *Store, names Buckets, do func(c *copier, namespaces []string) error) ([]CopiedTable, error) {
	c := &copier{from: s.orUnopened().keeper, to: to.orUnopened().keeper, rules: icecat.RulesProperty}
	c.snapshot = tempSnapshotPrefix + op + " to " + c.to.cat.ID()
	err := c.run(op, func() error {
		namespaces, err := names.namespaces(ctx, c.from.cat)
		if err != nil {
			return err
		}
		for _, ns := range namespaces {
			// an interrupted copy may have left a snapshot
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
			err = do(c, namespaces)
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
	from, to   *keeper
	snapshot   string
	rules      string   // in the source, the name of the namespace property that holds a bucket's rules
	keepOthers bool     // neither delete nor replace tables in the destination unless they are copies from the source
	restore    bool     // reuse a file in the destination only if it is intact
	only       []string // copy only these tables, and nothing else from the bucket; nil means the whole bucket
	results    []CopiedTable
	damaged    []error // errors of skipped tables, which are damaged or have delete files
}

// run calls f, and prevents both stores from removing files until f returns.
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
	err = f() // f appends to c.damaged, so it must run before the next line reads c.damaged
	return errors.Join(append(c.damaged, err)...)
}

// copyBucket copies the files of a bucket's tables, then commits all the tables together.
func (c *copier) copyBucket(ctx context.Context, ns string) error {
	name := bucketOf(ns)
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
	for _, name := range c.only {
		if !slices.ContainsFunc(listed, func(l icecat.Listed) bool { return l.Name == name }) {
			return &notFoundError{fmt.Sprintf("the backup has no table %q", name)}
		}
	}
	wholeBucket := c.only == nil
	listed = slices.DeleteFunc(listed, func(l icecat.Listed) bool { return !wholeBucket && !slices.Contains(c.only, l.Name) })
	steps, inSnapshot := map[string]*restoreStep{}, map[string]bool{}
	for _, l := range listed {
		inSnapshot[l.Name] = true
		step, err := c.copyTable(ctx, l)
		if err != nil {
			err = &OpError{Op: "copy", Bucket: name, Table: l.Name, Err: err}
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, content.ErrDeleteFiles) {
				return err
			}
			if !c.keepOthers && !c.restore {
				err = fmt.Errorf("%w; the backup keeps the table as it was in the previous backup, if any: verify --dir checks all files of backups", err)
			}
			c.damaged = append(c.damaged, err) // the other store keeps its old copy
			continue
		}
		result := CopiedTable{Bucket: name, Name: l.Name, Unchanged: step == nil, Rows: l.Rows}
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
		for info, err := range c.to.infos(ctx, name, new(Filter)) {
			if err == nil && !c.keepOthers && !inSnapshot[info.Name] {
				err = t.Delete(name, info.Name)
			}
			if err != nil {
				return err
			}
		}
		return t.restoreMetadata(c.from.core, name, c.snapshot)
	})
	if err != nil || !wholeBucket {
		return err
	}
	return copyProperty(ctx, c.from.cat, c.rules, c.to.cat, icecat.RulesProperty, ns)
}

// copyTable copies a table's files, and returns the step that commits the copy. If an earlier copy is up to date,
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
		same := toOrigin == originOf(c.from.cat, l.Location) || fromOrigin == originOf(c.to.cat, base)
		switch {
		case !same || err != nil:
		case c.restore:
			same, err = intact(ctx, c.to.commits, l.Namespace, l.Name, base)
		default:
			same, err = content.IsComplete(ctx, c.to.cat, l.Namespace, l.Name, base)
		}
		if err != nil || same {
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

// verify returns an error if the rows of a copied table differ from the original's. It sets d.Rows and d.Checksum.
func (c *copier) verify(ctx context.Context, d *CopiedTable) error {
	want, err := sumRows(ctx, &tableReader{core: c.from.core, bucket: d.Bucket, name: d.Name}, AtSnapshot(c.snapshot))
	if err != nil {
		return err
	}
	got, err := sumRows(ctx, &tableReader{core: c.to.core, bucket: d.Bucket, name: d.Name}, nil)
	if err == nil && !got.Equals(want) {
		err = &OpError{Op: "verify the copy of", Bucket: d.Bucket, Table: d.Name, Err: fmt.Errorf(
			"the original has %d rows with checksum %s, but the copy has %d rows with checksum %s: delete the copy, and copy again", want.Rows, want, got.Rows, got)}
	}
	d.Rows, d.Checksum = want.Rows, want.String()
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

// passOrigins records the source's origins, and the given IDs, in the destination, which has received all the source's
// tables.
func (c *copier) passOrigins(ctx context.Context, ids ...string) error {
	origins, err := c.from.cat.Origins(ctx)
	if err != nil {
		return err
	}
	return c.to.cat.AddOrigins(ctx, append(origins, ids...)...)
}

// copyProperty copies the namespace's property sourceKey in catalog source to its property destKey in catalog dest.
func copyProperty(ctx context.Context, source *icecat.Catalog, sourceKey string, dest *icecat.Catalog, destKey, ns string) error {
	text, err := source.Property(ctx, ns, sourceKey)
	if err != nil {
		return err
	}
	return dest.EditProperty(ctx, ns, destKey, func(string) (string, error) { return text, nil })
}
