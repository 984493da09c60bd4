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

// SweepResult is the result of Sweep.
type SweepResult struct {
	Files   int
	Bytes   int64
	Waiting int // unused files that are not removed yet
}

// Sweep removes files of the warehouse that no table or snapshot refers to: those of failed
// commits, expired versions and deleted tables. The first Sweep that finds an unused file notes it.
// A later Sweep removes it after the grace period, because until then others may read an older
// state, or commit the file. The period starts again for the files in used, which were in use until
// just before. busy returns when the oldest reader or writer in this process began, or the current
// time.
func (c *Catalog) Sweep(ctx context.Context, grace time.Duration, used map[string]struct{}, busy func() time.Time) (SweepResult, error) {
	err := c.inTx(ctx, func(w *work) {
		w.do(sweepInline)
		w.do(sweepCopies)
	})
	if err != nil {
		return SweepResult{}, err
	}
	// List the files before reading the references: later files are not in the list, and files that
	// are committed in between are referred to.
	files, err := c.listFiles(ctx)
	if err != nil {
		return SweepResult{}, err
	}
	// Call busy in between, because a running writer may commit a listed file after the references
	// are read.
	seen, oldest := time.Now(), busy()
	still, err := c.References(ctx)
	if err != nil {
		return SweepResult{}, err
	}
	for path := range still {
		delete(files, path)
	}
	since, err := c.noteOrphans(ctx, files, used, seen)
	if err != nil {
		return SweepResult{}, err
	}
	var s SweepResult
	dirs := map[string]bool{}
	for path, at := range since {
		// The wall clock may have been set. Therefore, also compare with how long the oldest reader
		// has run, by the monotonic clock.
		if at.Add(max(grace, 0)).After(seen) || oldest.Before(at) || seen.Sub(at) < seen.Sub(oldest) {
			if files[path] != emptyDir {
				s.Waiting++
			}
			continue
		}
		size := files[path]
		// Forget it first: if the process stops in between, the next Sweep finds the file again.
		if unused, err := c.forgetFile(ctx, path); err != nil {
			return s, err
		} else if !unused {
			continue
		}
		if size == emptyDir {
			dirs[path] = true
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
			break // a bucket has no directories
		}
		// Only empty directories can be removed.
		if c.fs.Remove(dir) == nil {
			_ = c.fs.Remove(filepath.Dir(dir))
		}
	}
	return s, nil
}

// emptyDir is the size of an empty directory. A staged table that is never created leaves some.
const emptyDir = -1

// listFiles returns the files below data/ with their sizes, and empty directories of tables.
func (c *Catalog) listFiles(ctx context.Context) (map[string]int64, error) {
	if r, ok := c.fs.(Remote); ok {
		return r.Files(ctx)
	}
	files, root := map[string]int64{}, filepath.Join(c.dir, "data")
	var walk func(dir string) error
	walk = func(dir string) error {
		d, err := c.fs.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // just removed
		}
		if err != nil {
			return err
		}
		entries, err := d.Next(-1)
		err = errors.Join(err, d.Close())
		if len(entries) == 0 && strings.HasPrefix(filepath.Dir(dir), root+"/") {
			files[dir] = emptyDir
		}
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
	return files, walk(root)
}

// References returns all files that tables and snapshots refer to.
func (c *Catalog) References(ctx context.Context) (map[string]struct{}, error) {
	used := references{c, map[string]struct{}{}}
	// Read the snapshots before the tables, because one may be restored and deleted in between; and
	// again after them, because one may be taken.
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

// add adds a file. It reports whether the file is new.
func (r references) add(location string) bool {
	path, err := r.c.local(location)
	if err != nil {
		return false // not a file of the warehouse
	}
	_, known := r.paths[path]
	r.paths[path] = struct{}{}
	return !known
}

// addNewest adds the files of a table's newest version.
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

// noteOrphans replaces the recorded orphans by files. It returns when each was first recorded.
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

// forgetFile deletes the records of a file before it is removed. It returns false if the file was
// wanted or committed after it was found unused.
func (c *Catalog) forgetFile(ctx context.Context, path string) (unused bool, err error) {
	location := c.location(strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(c.dir)+"/"))
	err = c.inTx(ctx, func(w *work) {
		if unused = w.do(`DELETE FROM partd_orphans WHERE path=?`, path) > 0; unused {
			w.do(`DELETE FROM partd_files WHERE path=?`, location)
		}
	})
	return unused, err
}

// ForgetPuts deletes the ids of puts from before a time.
func (c *Catalog) ForgetPuts(ctx context.Context, before time.Time) error {
	return c.inTx(ctx, func(w *work) { w.do(`DELETE FROM partd_puts WHERE at_ms<?`, before.UnixMilli()) })
}
