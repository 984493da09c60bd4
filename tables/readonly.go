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
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/icecat"
)

const catalogFile = "catalog.db"

// ReadOnly reports whether the Store changes nothing, because of Options.ReadOnly or
// because its directory is not writable.
func (s *Store) ReadOnly() bool { return s.orUnopened().opts.ReadOnly }

// SeesTail reports whether reads see rows that are only in the tail. A read-only Store sees
// those that were in the writer's tail when it opened, unless Options.NoTail is set. That
// tail must be in a directory of this machine, or be Options.Tail.
func (s *Store) SeesTail() bool { return s.orUnopened().tail != nil }

// openCopies copies the tail, and a catalog in a directory, to a temporary directory, because opening them
// would change them. The Store then reads the copies. openCopies takes no lock and opens the originals only for
// reading, so it never blocks a writer.
func (s *Store) openCopies(ctx context.Context, cat *icecat.Options) error {
	dir, temp, err := tempdir.NewDir("")
	if err != nil {
		return fmt.Errorf("make a directory for copies of the catalog and the tail: %w", err)
	}
	s.closes = append(s.closes, temp.Close)
	// The tail must be copied before the catalog: rows folded in between are then in both copies, as after a
	// crash, and count once.
	if err := s.copyTail(ctx, filepath.Join(dir, "tail")); err != nil {
		return fmt.Errorf("the tail: %w", err)
	}
	if cat.Database == "" {
		files := []string{catalogFile, catalogFile + "-wal"}
		copied, err := copyStable(ctx, func(ctx context.Context) (string, error) { return catalogFingerprint(ctx, s.local) }, func() error {
			return copyFiles(dir, s.local, files)
		})
		if err == nil && !copied {
			err = fmt.Errorf("there are no tables: %w", fs.ErrNotExist)
		}
		if err != nil {
			return err
		}
		cat.CopyDir = dir
	}
	s.opts.Logger.Warn("opened the tables read-only, in their current state", "dir", s.dir)
	s.opts.ReadOnly, cat.ReadOnly, s.local = true, true, dir
	return nil
}

// copyTail copies the tail, if there is one, and makes the copy the Store's tail.
func (s *Store) copyTail(ctx context.Context, to string) error {
	from, tailStore := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail")), s.opts.Tail
	noTail := s.opts.NoTail
	s.opts.TailDir, s.opts.Tail, s.opts.NoTail = to, nil, true
	if noTail {
		return nil
	}
	if tailStore != nil {
		l, err := logstore.Open(to, nil)
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
			err = os.RemoveAll(to)
		}
		if err == nil {
			err = os.Mkdir(to, 0o700)
		}
		return cmp.Or(err, copyFiles(to, from, names))
	})
	s.opts.NoTail = !copied
	return err
}

// catalogFingerprint returns a fingerprint of the database that changes when SQLite checkpoints or restarts its
// log. Until then the database stays the same and the log only grows. A copy that ends in the middle of a
// commit only lacks that commit.
func catalogFingerprint(ctx context.Context, dir string) (string, error) {
	db := filepath.Join(dir, catalogFile)
	i, err := os.Stat(db)
	if err != nil {
		return "", err
	}
	if age := time.Since(i.ModTime()); age >= 0 && age < mtimeGranularity { // the next write may come too soon to change the modification time
		if err := canceled.Wait(ctx, time.After(mtimeGranularity-age)); err != nil {
			return "", err
		}
	}
	head, err := headOf(db+"-wal", 32)
	return fmt.Sprintln(i.Size(), i.ModTime().UnixNano(), head), err
}

// mtimeGranularity exceeds the granularity of modification times on any disk.
const mtimeGranularity = 20 * time.Millisecond

// tailFingerprint returns a fingerprint of a log store that changes with its manifest, or when the store starts
// another write-ahead file; see docs/format.md. Until then files only grow, as before a crash.
func tailFingerprint(dir string) (string, error) {
	state, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	for n := range 3 {
		head, headErr := headOf(filepath.Join(dir, fmt.Sprint("wal-", n)), 64)
		state, err = fmt.Appendln(state, head), cmp.Or(err, headErr)
	}
	return string(state), err
}

// tailFiles returns the names of a log store's files in the order for copying: write-ahead
// files precede the files that they refer to.
func tailFiles(dir string) (names []string, err error) {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		if name := e.Name(); e.Type().IsRegular() && name != "LOCK" && !strings.HasPrefix(name, "MANIFEST.") {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "wal-"), strings.Count(a, "wal-"))
	})
	return names, err
}

// headOf returns the first length bytes of a file, or "" if it is missing.
func headOf(path string, length int) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	head, err := io.ReadAll(io.LimitReader(f, int64(length)))
	return string(head), err
}

// copyStable calls copyAll until ctx ends, or until fingerprint returns the same before and after, because another
// process may write. It reports whether there is anything to copy.
func copyStable(ctx context.Context, fingerprint func(context.Context) (string, error), copyAll func() error) (bool, error) {
	const tries, pause = 40, 50 * time.Millisecond
	for n := 1; ; n++ {
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
		if n == tries {
			changing := errors.New("another process keeps changing the files: query the server that owns them")
			return true, errors.Join(err, changing)
		}
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return true, err
		}
	}
}

// copyFiles copies the named files of a directory that exist.
func copyFiles(to, from string, names []string) error {
	for _, name := range names {
		if err := copyFile(filepath.Join(to, name), filepath.Join(from, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile replaces a file with a copy of another.
func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
