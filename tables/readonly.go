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

// ReadOnly reports whether the Store changes nothing: by Options.ReadOnly, or as its
// directory cannot be written.
func (s *Store) ReadOnly() bool { return s.made().opts.ReadOnly }

// SeesTail reports whether reads see rows that are in the tail alone. A Store for reading
// sees those that the writer's tail had when it was opened, if that tail is in a directory
// of this machine or was given, and not with Options.NoTail.
func (s *Store) SeesTail() bool { return s.made().tail != nil }

// borrow copies what a Store changes by being open, a tail and a catalog in directories,
// to a temporary one, and makes the Store read them there. Whoever writes meanwhile is
// not hindered: no lock is taken, and nothing is opened but for reading.
func (s *Store) borrow(ctx context.Context, cat *icecat.Options) error {
	own, temp, err := tempdir.Own("")
	if err != nil {
		return fmt.Errorf("a place for copies of the catalog and the tail: %w", err)
	}
	s.closes = append(s.closes, temp.Close)
	// The tail comes first: what is folded meanwhile is in both, as after a crash, and
	// counts once.
	if err := s.borrowTail(ctx, filepath.Join(own, "tail")); err != nil {
		return fmt.Errorf("the tail: %w", err)
	}
	if cat.Database == "" {
		files := []string{catalogFile, catalogFile + "-wal"}
		copied, err := settled(ctx, func() (string, error) { return catalogState(s.local) }, func() error {
			return copyFiles(own, s.local, files)
		})
		if err == nil && !copied {
			err = fmt.Errorf("there are no tables: %w", fs.ErrNotExist)
		}
		if err != nil {
			return err
		}
		cat.CopyDir = own
	}
	s.opts.Logger.Warn("the tables are open for reading only, as they are now", "dir", s.dir)
	s.opts.ReadOnly, cat.ReadOnly, s.local = true, true, own
	return nil
}

// borrowTail makes a copy of the tail, if there is one, that of the Store.
func (s *Store) borrowTail(ctx context.Context, to string) error {
	from, given := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail")), s.opts.Tail
	none := s.opts.NoTail
	s.opts.TailDir, s.opts.Tail, s.opts.NoTail = to, nil, true
	if none {
		return nil
	}
	if given != nil {
		l, err := logstore.Open(to, nil)
		if err != nil {
			return err
		}
		_, err = partd.Copy(ctx, l, given, nil)
		s.opts.NoTail = false
		return errors.Join(err, l.Close())
	}
	copied, err := settled(ctx, func() (string, error) { return tailState(from) }, func() error {
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

// catalogState is another one once SQLite has moved pages from its log to the database,
// or begun the log anew. Until then the database stays, and the log grows: a copy that
// ends in the midst of a commit lacks that one.
func catalogState(dir string) (string, error) {
	db := filepath.Join(dir, catalogFile)
	i, err := os.Stat(db)
	if err != nil {
		return "", err
	}
	if age := time.Since(i.ModTime()); age >= 0 && age < timesApart { // what is written next may leave this time
		time.Sleep(timesApart - age)
	}
	head, err := headOf(db+"-wal", 32)
	return fmt.Sprintln(i.Size(), i.ModTime().UnixNano(), head), err
}

// timesApart is longer than the times of files are apart on any disk that tells them.
const timesApart = 20 * time.Millisecond

// tailState is another one once a log store has changed its manifest, or begun another
// write-ahead file: docs/format.md. Until then files grow, as before a crash.
func tailState(dir string) (string, error) {
	state, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	for n := range 3 {
		head, headErr := headOf(filepath.Join(dir, fmt.Sprint("wal-", n)), 64)
		state, err = fmt.Appendln(state, head), cmp.Or(err, headErr)
	}
	return string(state), err
}

// tailFiles returns the names of a log store's files in the order in which they are copied:
// what the write-ahead files refer to comes after them.
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

// headOf returns how a file begins, "" of one that is missing.
func headOf(path string, length int) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	head, err := io.ReadAll(io.LimitReader(f, int64(length)))
	return string(head), err
}

// settled makes copies again until they are of one state: another process may write. It
// reports whether there is one.
func settled(ctx context.Context, state func() (string, error), copies func() error) (bool, error) {
	const tries, pause = 40, 50 * time.Millisecond
	for n := 1; ; n++ {
		before, err := state()
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		err = copies()
		if after, stateErr := state(); stateErr == nil && before == after {
			return true, err
		}
		if n == tries {
			return true, errors.New("another process changes it all the time: ask that one's server")
		}
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return true, err
		}
	}
}

// copyFiles copies those files of a directory that are there.
func copyFiles(to, from string, names []string) error {
	for _, name := range names {
		if err := copyFile(filepath.Join(to, name), filepath.Join(from, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile makes a file a copy of another.
func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
