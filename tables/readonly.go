package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

const catalogFile = "catalog.db"

// openCopies copies the tail and the catalog to a temporary directory and makes the Store read the copies, because
// opening the originals would change them. It does not copy a catalog in PostgreSQL. It takes no lock, so it never
// blocks a writer.
func (s *core) openCopies(ctx context.Context, cat *icecat.Options) error {
	dir, temp, err := tempdir.NewDir("")
	if err != nil {
		return fmt.Errorf("create a directory for copies of the catalog and the tail: %w", err)
	}
	s.closers = append(s.closers, temp.Close)
	// Copy the tail before the catalog. If a fold moves rows into files in between, both copies contain these rows, as
	// after a crash during a fold, and readers see the rows once. In the reverse order, neither copy would contain
	// them.
	if err := s.copyTail(ctx, filepath.Join(dir, "tail")); err != nil {
		return fmt.Errorf("copy the tail: %w", err)
	}
	if cat.Database == "" {
		// Copy the log last: commits during the copy only append to it, so the checksums still fit the copied database.
		files := []string{catalogFile + "-sums", catalogFile, catalogFile + "-wal"}
		catalogDir := s.localDir // s.localDir changes below
		copyCatalog := func() (bool, error) {
			return copyStable(ctx, func(ctx context.Context) (string, error) { return catalogFingerprint(ctx, catalogDir) }, func() error {
				return copyFiles(dir, catalogDir, files)
			})
		}
		copied, err := copyCatalog()
		if err == nil && !copied {
			err = fmt.Errorf("catalog.db is missing: %w", fs.ErrNotExist)
		}
		if err != nil {
			return err
		}
		cat.CopyDir, cat.CopyAgain = dir, func() error { _, err := copyCatalog(); return err }
	}
	s.opts.Logger.Info("opened the tables read-only, in their current state", "dir", s.dir)
	s.opts.ReadOnly, cat.ReadOnly, s.localDir = true, true, dir
	return nil
}

// copyTail copies the tail, if it exists, to the directory dest and makes the Store use the copy.
func (s *core) copyTail(ctx context.Context, dest string) error {
	from, tailStore := cmp.Or(s.opts.TailDir, filepath.Join(s.localDir, "tail")), s.opts.Tail
	noTail := s.opts.NoTail
	s.opts.TailDir, s.opts.Tail, s.opts.NoTail = dest, nil, true
	if noTail {
		return nil
	}
	if tailStore != nil {
		l, err := logstore.Open(dest, nil)
		if err != nil {
			return err
		}
		_, err = partd.Copy(ctx, l, tailStore, nil)
		s.opts.NoTail = false
		return errors.Join(err, l.Close())
	}
	copied, err := copyStable(ctx, func(context.Context) (string, error) { return tailFingerprint(from) }, func() error {
		names, err := tailFiles(from)
		if err == nil {
			err = os.RemoveAll(dest)
		}
		if err == nil {
			err = os.Mkdir(dest, 0o700)
		}
		return cmp.Or(err, copyFiles(dest, from, names))
	})
	s.opts.NoTail = !copied
	return err
}

// catalogFingerprint returns a value that changes when SQLite changes the database file or restarts its write-ahead
// log. While the value stays the same, the log only grows, so a copy of the database file and the log can at worst lack
// the newest commits.
func catalogFingerprint(ctx context.Context, dir string) (string, error) {
	db := filepath.Join(dir, catalogFile)
	i, err := os.Stat(db)
	if err != nil {
		return "", err
	}
	// Wait until another write would change the modification time. min is for file servers whose clock is ahead.
	granularity := mtimeGranularity(i.ModTime())
	if age := time.Since(i.ModTime()); age < granularity {
		if err := canceled.Wait(ctx, time.After(min(granularity, granularity-age))); err != nil {
			return "", err
		}
	}
	walHeader, err := headOf(db+"-wal", 32)
	return fmt.Sprintln(i.Size(), i.ModTime().UnixNano(), walHeader), err
}

// mtimeGranularity returns a duration that is longer than the granularity of modification times on a file system. mtime
// is the modification time of a file on this file system.
func mtimeGranularity(mtime time.Time) time.Duration {
	if mtime.Nanosecond() == 0 { // the file system probably stores only full seconds or, like FAT, every second one
		return 3 * time.Second
	}
	return 20 * time.Millisecond // a tick of the kernel's clock takes 1 to 10 milliseconds
}

// tailFingerprint returns a value that changes when a log store changes its manifest or starts another write-ahead
// file; see docs/dev/format.md. While the value stays the same, the store's files only grow, so their copies can be
// opened like the files of a store after a crash.
func tailFingerprint(dir string) (string, error) {
	fingerprint, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	for n := range 3 {
		header, headErr := headOf(filepath.Join(dir, fmt.Sprint("wal-", n)), 64)
		fingerprint, err = fmt.Appendln(fingerprint, header), cmp.Or(err, headErr)
	}
	return string(fingerprint), err
}

// tailFiles returns the names of a log store's files in the order for copying: write-ahead files come before the files
// that they refer to.
func tailFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name := e.Name(); e.Type().IsRegular() && !strings.HasPrefix(name, "LOCK") && !strings.HasPrefix(name, "MANIFEST.") {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "wal-"), strings.Count(a, "wal-"))
	})
	return names, err
}

// headOf returns up to length bytes from the beginning of a file, or "" if the file is missing.
func headOf(path string, length int) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // opened only for reading
	head, err := io.ReadAll(io.LimitReader(f, int64(length)))
	return string(head), err
}

// copyStable copies files that another process may be writing: it calls copyAll until the fingerprint is the same
// before and after the call. It returns false if the files do not exist.
func copyStable(ctx context.Context, fingerprint func(context.Context) (string, error), copyAll func() error) (bool, error) {
	const maxAttempts, pause = 40, 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		before, err := fingerprint(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		err = copyAll()
		if after, afterErr := fingerprint(ctx); afterErr == nil && before == after {
			return true, err
		}
		if attempt == maxAttempts {
			changing := errors.New("another process keeps changing the files: query the server that owns them")
			return true, errors.Join(err, changing)
		}
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return true, err
		}
	}
}

// copyFiles copies the named files from one directory to another. It ignores missing files.
func copyFiles(to, from string, names []string) error {
	for _, name := range names {
		err := copyFile(filepath.Join(to, name), filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) { // remove the copy from an earlier attempt
			err = os.RemoveAll(filepath.Join(to, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) (err error) {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if filepath.Base(from) == catalogFile {
		return icecat.CopyDatabase(out, from)
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened only for reading
	_, err = io.Copy(out, in)
	return err
}
