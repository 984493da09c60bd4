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
	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/parallel"
)

// Restore restores the named tables from a backup, or all of its tables if none are
// named. A table that no node has, or only in an older version, is restored as it was,
// also for nodes that return later. A table that has changed since gets a new version
// with the rows of the backup. Restore does not fetch intact files again, and a second
// call continues an interrupted one.
func (n *Node) Restore(ctx context.Context, from objstore.Bucket, name string, tables ...string) (done []Copied, err error) {
	defer failed("restore", name, &err)
	place := backupBucket(from)
	b, err := place.Read(ctx, backupObject(name), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no backup has this name: %w", ErrNotFound)
	}
	var made backup
	if err == nil {
		err = json.Unmarshal(b, &made)
	}
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if !slices.ContainsFunc(made.Tables, func(r entry) bool { return r.Name == t }) {
			return nil, fmt.Errorf("the backup has no table %q: %w", t, ErrNotFound)
		}
	}
	for _, r := range made.Tables {
		if len(tables) > 0 && !slices.Contains(tables, r.Name) {
			continue
		}
		c := Copied{Name: r.Name, Rows: r.Rows}
		if c.Version, err = n.restoreTable(ctx, place, r.record, &c); err != nil {
			return done, fmt.Errorf("table %q: %w", r.Name, err)
		}
		done = append(done, c)
	}
	return done, nil
}

func (n *Node) restoreTable(ctx context.Context, from content.Bucket, was record, done *Copied) (_ int64, err error) {
	var mu sync.Mutex
	get := func(ctx context.Context, f content.Named) error {
		n.disk.keep(f) // protects the file until a head refers to it
		has, err := n.disk.Open(ctx, f)
		if err == nil {
			return has.Close()
		}
		err = n.replace(ctx, was.Name, f, err, func() error { return n.disk.Fetch(ctx, f, from) })
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += f.Size
		return err
	}
	if err := get(ctx, was.file()); err != nil {
		return 0, err
	}
	b, err := readAll(n.disk.Open(ctx, was.file()))
	if err != nil {
		return 0, err
	}
	m, err := readManifest(b, was)
	if err == nil {
		err = parallel.Each(ctx, slices.Values(m.files), 0, func(ctx context.Context, f dataFile) error { return get(ctx, f.Named) })
	}
	if err != nil {
		return 0, err
	}
	h, err := n.disk.head(keyOf(was.Name))
	if err != nil {
		return 0, err
	}
	now, revision, err := n.findNewest(ctx, keyOf(was.Name), h)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && now.Version < was.Version && now.Table == was.Table && m.follows(now):
		if err = n.commit(ctx, was, revision); err == nil {
			now, err = was, n.saved(ctx, was)
		}
	case err == nil && now == was:
		err = n.saved(ctx, was)
	case err == nil:
		has, err2 := n.manifest(ctx, now) // fails if no live node has it
		if err2 == nil && slices.Equal(has.files, m.files) && has.schema.Equal(m.schema) {
			return now.Version, n.saved(ctx, now)
		}
		now, err = n.publish(ctx, m, version{now, has}, revision)
	}
	return now.Version, err
}
