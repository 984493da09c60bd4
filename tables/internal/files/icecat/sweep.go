package icecat

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"
)

// SweepResult reports what Sweep removed.
type SweepResult struct {
	Files   int
	Bytes   int64
	Waiting int // number of unused files that are still in their grace period

	WaitingBytes map[string]int64 // total sizes of the waiting files, by the path of their table's directory
	Soon         bool             // whether a waiting file has the grace period GracePeriods.Replaced
}

// GracePeriods says how long files must have been unused before Sweep removes them, because another process may still
// read or commit them.
type GracePeriods struct {
	Unused time.Duration // for all files to which Replaced does not apply
	// Replaced applies to files that a commit has added to a table, but that no version of the table needs any more: to
	// metadata files, and to all files of tables for which Expires returns true. Nobody can commit these files.
	Replaced time.Duration
	Expires  func(*table.Table) bool
}

// sweeper removes unused files.
type sweeper struct {
	*database
	*warehouse
	listings *listings
	loader   *loader
}

// Sweep removes files in the warehouse to which no table or snapshot refers: files of failed commits, expired versions
// and deleted tables. The first Sweep that finds an unused file records it. A later Sweep removes the file after its
// grace period, which starts again for files in recentlyUsed. oldestStart returns the start time of the oldest running
// reader or writer in this process, or the current time if there is none.
func (sw *sweeper) Sweep(ctx context.Context, grace GracePeriods, recentlyUsed map[string]struct{}, oldestStart func() time.Time) (SweepResult, error) {
	err := sw.CheckFiles()
	if err == nil {
		err = sw.inTx(ctx, func(t *transaction) {
			t.exec(`DELETE FROM partd_files WHERE path IN (SELECT location` + unusedInline + `)`) // as when a change deletes inline metadata
			t.exec(`DELETE` + unusedInline)
			t.exec(sweepCopies)
		})
	}
	if err != nil {
		return SweepResult{}, err
	}
	// List the files before the references, so that files written later are not listed, and files committed in between
	// are referenced.
	files, err := sw.listFiles(ctx)
	if err != nil {
		return SweepResult{}, err
	}
	// Call oldestStart first: a writer that ends while the references are read may commit a listed file that they lack.
	start, oldest := time.Now(), oldestStart()
	refs, err := sw.references(ctx, grace.Expires)
	if err != nil {
		return SweepResult{}, err
	}
	for path := range refs.paths {
		delete(files, path)
	}
	for path := range files {
		if refs.keepAll[sw.tableDir(path)] {
			delete(files, path)
		}
	}
	firstSeen, err := sw.recordOrphans(ctx, files, recentlyUsed, start)
	if err != nil {
		return SweepResult{}, err
	}
	s := SweepResult{WaitingBytes: map[string]int64{}}
	dirs := map[string]bool{}
	for path, seen := range firstSeen {
		period := grace.Unused
		if grace.Replaced < period {
			isReplaced, err := sw.isReplaced(ctx, refs, path)
			if err != nil {
				return s, err
			}
			if isReplaced {
				period = grace.Replaced
			}
		}
		// Someone may have set the wall clock. So also compare the record's age with the running time of the oldest
		// reader or writer, by the monotonic clock.
		if seen.Add(max(period, 0)).After(start) || oldest.Before(seen) || start.Sub(seen) < start.Sub(oldest) {
			if files[path] != emptyDir {
				s.Waiting++
				s.WaitingBytes[sw.tableDir(path)] += files[path]
				s.Soon = s.Soon || period != grace.Unused
			}
			continue
		}
		size := files[path]
		// Delete the record before the file: if the process dies in between, the next Sweep finds the file again.
		if unused, err := sw.forgetFile(ctx, path); err != nil {
			return s, err
		} else if !unused {
			continue
		}
		if size == emptyDir {
			dirs[path] = true
			continue
		}
		if err := sw.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		s.Files++
		s.Bytes += size
		dirs[filepath.Dir(path)] = true
	}
	if sw.root == "" { // a bucket has no directories
		sw.removeEmpty(dirs)
	}
	return s, nil
}

// removeEmpty removes each empty directory, and then its parent if that is empty.
func (sw *sweeper) removeEmpty(dirs map[string]bool) {
	for dir := range dirs {
		// Remove deletes a directory only if it is empty.
		if sw.fs.Remove(dir) == nil {
			_ = sw.fs.Remove(filepath.Dir(dir)) // fails, as intended, if the directory is not empty
		}
	}
}

// isReplaced reports whether the grace period GracePeriods.Replaced applies to an unused file.
func (sw *sweeper) isReplaced(ctx context.Context, refs references, path string) (bool, error) {
	expires, exists := refs.expires[sw.tableDir(path)]
	if !exists || !expires && !strings.HasSuffix(path, ".metadata.json") {
		return false, nil
	}
	// Copies record files without a UUID before they commit them.
	uuid, err := sw.firstString(ctx, `SELECT uuid FROM partd_files WHERE path=?`, sw.locationOf(path))
	return uuid != "", err
}

// locationOf returns the location of the file at a path.
func (sw *sweeper) locationOf(path string) string {
	return sw.location(strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(sw.dir)+"/"))
}

// emptyDir stands for the size of an empty directory. Tables that were staged but never created leave such directories.
const emptyDir = -1

// listFiles returns the sizes of the files below data/, and the empty directories of tables.
func (sw *sweeper) listFiles(ctx context.Context) (map[string]int64, error) {
	if r, ok := sw.fs.(Remote); ok {
		return r.Files(ctx)
	}
	files, root := map[string]int64{}, filepath.Join(sw.dir, "data")
	var walk func(dir string) error
	walk = func(dir string) error {
		d, err := sw.fs.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed in the meantime
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
			info, infoErr := sw.fs.Info(path)
			if infoErr == nil {
				files[path] = info.Size
			} else if !errors.Is(infoErr, fs.ErrNotExist) {
				err = infoErr
			}
		}
		return err
	}
	return files, walk(root)
}

// recordOrphans replaces the recorded orphans (unused files) with files. It returns the time when each file was first
// recorded.
func (sw *sweeper) recordOrphans(ctx context.Context, files map[string]int64, recentlyUsed map[string]struct{}, now time.Time) (map[string]time.Time, error) {
	firstSeen := make(map[string]time.Time, len(files))
	var outdated, added []string
	err := query(ctx, sw.readPool, func(rows *sql.Rows) error {
		var path string
		var millis int64
		err := rows.Scan(&path, &millis)
		_, wasUsed := recentlyUsed[path]
		if _, isUnused := files[path]; isUnused && !wasUsed {
			firstSeen[path] = time.UnixMilli(millis)
		} else {
			outdated = append(outdated, path)
		}
		return err
	}, `SELECT path, seen_ms FROM partd_orphans`)
	for path := range files {
		if _, recorded := firstSeen[path]; !recorded {
			added = append(added, path)
		}
	}
	change := func(paths []string, do func(t *transaction, path string)) {
		for chunk := range slices.Chunk(paths, 1000) { // so that commits do not wait long
			if err != nil {
				return
			}
			err = sw.inTx(ctx, func(t *transaction) {
				for _, path := range chunk {
					do(t, path)
				}
			})
		}
	}
	change(outdated, func(t *transaction, path string) { t.exec(`DELETE FROM partd_orphans WHERE path=?`, path) })
	change(added, func(t *transaction, path string) {
		firstSeen[path] = now
		// Round the time up, so that the grace period does not end early.
		t.exec(`INSERT INTO partd_orphans VALUES (?,?) ON CONFLICT DO NOTHING`, path, now.UnixMilli()+1)
	})
	return firstSeen, err
}

// forgetFile deletes a file's records before the file is removed. unused is false if a commit or Protect has put the
// file back into use.
func (sw *sweeper) forgetFile(ctx context.Context, path string) (unused bool, err error) {
	err = sw.inTx(ctx, func(t *transaction) {
		unused = t.exec(`DELETE FROM partd_orphans WHERE path=?`, path) > 0
		if unused {
			t.exec(`DELETE FROM partd_files WHERE path=?`, sw.locationOf(path))
		}
	})
	return unused, err
}

// addPinned adds the files that only snapshots refer to.
func (sw *sweeper) addPinned(ctx context.Context, refs references) error {
	locations, err := sw.queryStrings(ctx, `SELECT DISTINCT metadata_location FROM partd_snapshot_tables
		EXCEPT SELECT metadata_location FROM iceberg_tables`)
	if err != nil {
		return err
	}
	for _, location := range locations {
		if refs.has(location) {
			continue
		}
		t, err := sw.loader.LoadAt(ctx, "", "", location)
		if err == nil {
			err = refs.addNewest(t)
		}
		if err == nil {
			continue
		}
		// Ignore the error if the snapshots have just been deleted, because their files may then have been removed.
		snapshots, err2 := sw.queryStrings(ctx, `SELECT snapshot FROM partd_snapshot_tables WHERE metadata_location=? LIMIT 1`, location)
		if err2 != nil || len(snapshots) > 0 {
			return errors.Join(err, err2)
		}
	}
	return nil
}
