package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Restore restores the named tables from a backup, or all its tables if none are named. If the nodes have only older
// versions of a table, or none, Restore restores exactly the backup's version, which also replaces older versions on
// nodes that return later. A table that has changed since the backup gets a new version with the backup's rows. Restore
// fetches only files that are missing or damaged, so a second call continues an interrupted one.
func (n *Node) Restore(ctx context.Context, from objstore.Bucket, name string, tables ...string) (done []Copied, err error) {
	defer wrapError("restore", name, &err)
	if err := n.checkOpened(); err != nil {
		return nil, err
	}
	source := backupBucket(from)
	b, err := source.Read(ctx, backupObject(name), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the backup %w", ErrNotFound)
	}
	var listing backup
	if err == nil {
		err = json.Unmarshal(b, &listing)
	}
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if !slices.ContainsFunc(listing.Tables, func(r entry) bool { return r.Name == t }) {
			return nil, fmt.Errorf("table %q %w in the backup", t, ErrNotFound)
		}
	}
	for _, r := range listing.Tables {
		if len(tables) > 0 && !slices.Contains(tables, r.Name) {
			continue
		}
		c := Copied{Name: r.Name, Rows: r.Rows}
		c.Version, err = n.restoreTable(ctx, source, r.record, &c)
		if err != nil {
			return done, fmt.Errorf("table %q: %w", r.Name, err)
		}
		done = append(done, c)
	}
	return done, nil
}

// restoreTable restores a table to saved, the backup's version. It returns the table's resulting
// version. It counts the fetched files in done.
func (n *Node) restoreTable(ctx context.Context, from content.Bucket, saved record, done *Copied) (_ int64, err error) {
	var mu sync.Mutex
	get := func(ctx context.Context, f content.HashNamed) error {
		n.disk.touch(f) // Protect the file from a sweep until a head refers to it.
		existing, err := n.disk.Open(f)
		if err == nil {
			return existing.Close()
		}
		err = n.replace(saved.Name, f, err, func() error { return n.disk.Fetch(ctx, f, from) })
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += f.Size
		return err
	}
	if err := get(ctx, saved.manifestFile()); err != nil {
		return 0, err
	}
	m, err := n.manifest(ctx, saved)
	if err == nil {
		err = parallel.Each(ctx, slices.Values(m.files), 0, func(ctx context.Context, f dataFile) error { return get(ctx, f.HashNamed) })
	}
	if err != nil {
		return 0, err
	}
	current, revision, err := n.findNewest(ctx, saved.Name)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && current.Version < saved.Version && current.Table == saved.Table && m.follows(current):
		err = n.commit(ctx, saved, revision)
		if err == nil {
			current, err = saved, n.adopt(ctx, saved)
		}
	case err == nil && current == saved:
		err = n.adopt(ctx, saved)
	case err == nil:
		// Ignore this error: if no live node has the current manifest, publish does not need it.
		existing, err2 := n.manifest(ctx, current)
		if err2 == nil && slices.Equal(existing.files, m.files) && existing.schema.Equal(m.schema) {
			return current.Version, n.adopt(ctx, current)
		}
		current, err = n.publish(ctx, m, version{current, existing}, revision)
	}
	return current.Version, err
}
