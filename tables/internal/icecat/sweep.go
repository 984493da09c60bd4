package icecat

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"
)

// Swept says what Sweep did.
type Swept struct {
	Files   int
	Bytes   int64
	Waiting int // found to be of no use, and not removed yet
}

// Sweep removes files of the warehouse that no table refers to: those of failed
// commits, of versions that expired and of tables that were deleted. A file is
// removed once it was of no use for the time of grace, to whoever reads an older
// state or has yet to commit it: it is noted by the first Sweep that finds it, and
// removed by one that finds it again. The time begins anew for files that were of
// use just before, as used says. Busy returns when the oldest reader or writer in
// this process began, or now.
func (c *Catalog) Sweep(ctx context.Context, grace time.Duration, used map[string]struct{}, busy func() time.Time) (Swept, error) {
	err := c.inTx(ctx, func(w *work) {
		w.do(sweepInline)
		w.do(sweepCopies)
	})
	if err != nil {
		return Swept{}, err
	}
	// Files are listed before the references are read: one that is made
	// meanwhile is not in the list, and one that is committed is referred to.
	files, err := c.listFiles(ctx)
	if err != nil {
		return Swept{}, err
	}
	// In between it is asked who is at work: whoever made a file that is listed, and
	// commits it once the references were read.
	seen, oldest := time.Now(), busy()
	still, err := c.References(ctx)
	if err != nil {
		return Swept{}, err
	}
	for path := range still {
		delete(files, path)
	}
	since, err := c.noteOrphans(ctx, files, used, seen)
	if err != nil {
		return Swept{}, err
	}
	var s Swept
	dirs := map[string]bool{}
	for path, at := range since {
		// Since the wall clock may have been set, it counts as well how long the
		// oldest reader is there by the other clock.
		if at.Add(max(grace, 0)).After(seen) || oldest.Before(at) || seen.Sub(at) < seen.Sub(oldest) {
			s.Waiting++
			continue
		}
		size := files[path]
		// Forgotten first: if we stop in between, the next Sweep finds it anew.
		if useless, err := c.forgetFile(ctx, path); err != nil {
			return s, err
		} else if !useless {
			continue
		}
		if err := c.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		s.Files++
		s.Bytes += size
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		if c.root != "" {
			break // there are none in a bucket
		}
		// Only directories that are empty now can be removed.
		if c.fs.Remove(dir) == nil {
			_ = c.fs.Remove(filepath.Dir(dir))
		}
	}
	return s, nil
}

// listFiles returns the files below data/ with their sizes.
func (c *Catalog) listFiles(ctx context.Context) (map[string]int64, error) {
	if r, ok := c.fs.(Remote); ok {
		return r.Files(ctx)
	}
	files := map[string]int64{}
	var walk func(dir string) error
	walk = func(dir string) error {
		d, err := c.fs.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		entries, err := d.Next(-1)
		err = errors.Join(err, d.Close())
		for i := 0; i < len(entries) && err == nil; i++ {
			path := filepath.Join(dir, entries[i].Name())
			if entries[i].IsDir() {
				err = walk(path)
				continue
			}
			info, failed := c.fs.Info(path)
			if failed == nil {
				files[path] = info.Size
			} else if !errors.Is(failed, fs.ErrNotExist) {
				err = failed
			}
		}
		return err
	}
	return files, walk(filepath.Join(c.dir, "data"))
}

// References returns every file that a table's metadata refers to.
func (c *Catalog) References(ctx context.Context) (map[string]struct{}, error) {
	used := references{c, map[string]struct{}{}}
	// Snapshots before the tables, for one may be restored and deleted meanwhile; and
	// again after them, for one may be made.
	if err := c.pinned(ctx, used); err != nil {
		return nil, err
	}
	if err := c.each(ctx, func(_ TableName, t *table.Table) error { return used.addAll(t) }); err != nil {
		return nil, err
	}
	return used.paths, c.pinned(ctx, used)
}

type references struct {
	c     *Catalog
	paths map[string]struct{}
}

// add reports whether a file was not referred to before.
func (r references) add(location string) bool {
	path, err := r.c.local(location)
	if err != nil {
		return false // not a local file, so none of ours
	}
	_, known := r.paths[path]
	r.paths[path] = struct{}{}
	return !known
}

// addNewest adds what the newest version of a table needs.
func (r references) addNewest(t *table.Table) error {
	r.add(t.MetadataLocation())
	if s := t.CurrentSnapshot(); s != nil {
		return r.addVersion(s)
	}
	return nil
}

func (r references) has(location string) bool {
	path, err := r.c.local(location)
	_, known := r.paths[path]
	return err == nil && known
}

func (r references) addAll(t *table.Table) error {
	r.add(t.MetadataLocation())
	meta := t.Metadata()
	for s := range meta.Statistics() {
		r.add(s.StatisticsPath)
	}
	for s := range meta.PartitionStatistics() {
		r.add(s.StatisticsPath)
	}
	for _, s := range meta.Snapshots() {
		if err := r.addVersion(&s); err != nil {
			return err
		}
	}
	return nil
}

func (r references) addVersion(s *table.Snapshot) error {
	r.add(s.ManifestList)
	manifests, err := s.Manifests(r.c.reader)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		if !r.add(m.FilePath()) {
			continue
		}
		for entry, err := range m.Entries(r.c.reader, true) {
			if err != nil {
				return err
			}
			r.add(entry.DataFile().FilePath())
		}
	}
	return nil
}

// noteOrphans makes files the orphans that are known, and returns since when
// each is known.
func (c *Catalog) noteOrphans(ctx context.Context, files map[string]int64, used map[string]struct{}, now time.Time) (map[string]time.Time, error) {
	since := make(map[string]time.Time, len(files))
	return since, c.inTx(ctx, func(w *work) {
		var gone []string
		w.err = query(ctx, w.tx, func(rows *sql.Rows) error {
			var path string
			var at int64
			err := rows.Scan(&path, &at)
			_, was := used[path]
			if _, still := files[path]; still && !was {
				since[path] = time.UnixMilli(at)
			} else {
				gone = append(gone, path)
			}
			return err
		}, `SELECT path, seen_ms FROM partd_orphans`)
		for _, path := range gone {
			w.do(`DELETE FROM partd_orphans WHERE path=?`, path)
		}
		for path := range files {
			if _, known := since[path]; !known {
				since[path] = now
				w.do(`INSERT INTO partd_orphans VALUES (?,?)`, path, now.UnixMilli()+1)
			}
		}
	})
}

// forgetFile removes what is known of a file that is to be removed. It reports false
// where somebody wants or committed it since it was found to be of no use.
func (c *Catalog) forgetFile(ctx context.Context, path string) (useless bool, err error) {
	location := c.location(strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(c.dir)+"/"))
	err = c.inTx(ctx, func(w *work) {
		if useless = w.do(`DELETE FROM partd_orphans WHERE path=?`, path) > 0; useless {
			w.do(`DELETE FROM partd_files WHERE path=?`, location)
		}
	})
	return useless, err
}

// ForgetPuts forgets the ids of puts from before a time.
func (c *Catalog) ForgetPuts(ctx context.Context, before time.Time) error {
	return c.inTx(ctx, func(w *work) { w.do(`DELETE FROM partd_puts WHERE at_ms<?`, before.UnixMilli()) })
}
