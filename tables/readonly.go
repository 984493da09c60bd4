package tables

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/tables/internal/icecat"
)

const catalogFile = "catalog.db"

// ReadOnly reports whether the Store changes nothing: by Options.ReadOnly, or as its
// directory cannot be written.
func (s *Store) ReadOnly() bool { return s.opts.ReadOnly }

// borrow copies what a Store changes by being open, the catalog and the tail, to a
// temporary directory, and makes the Store read them there.
func (s *Store) borrow(cat *icecat.Options) error {
	own, temp, err := tempdir.Own("")
	if err != nil {
		return fmt.Errorf("a place for copies of the catalog and the tail: %w", err)
	}
	s.closes = append(s.closes, temp.Close)
	// The tail comes first: what is folded meanwhile is in both, as after a crash, and
	// counts once.
	from := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail"))
	s.opts.TailDir = ""
	if s.opts.Tail == nil {
		to := filepath.Join(own, "tail")
		copied, err := settled([]string{from}, func() error {
			return errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from)))
		})
		if err != nil {
			return fmt.Errorf("the tail: %w", err)
		}
		if copied {
			s.opts.TailDir = to
		}
	}
	var files []string
	for _, name := range []string{catalogFile, catalogFile + "-wal"} {
		files = append(files, filepath.Join(s.local, name))
	}
	copied, err := settled(files, func() error {
		for _, file := range files {
			if err := copyFile(filepath.Join(own, filepath.Base(file)), file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err == nil && !copied {
		err = fmt.Errorf("there are no tables: %w", fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	s.opts.Logger.Warn("the tables are open for reading only, as they are now", "dir", s.dir)
	s.opts.ReadOnly, s.opts.NoTail = true, s.opts.TailDir == "" && s.opts.Tail == nil
	s.local, cat.CopyDir = own, own
	return nil
}

// settled copies files again until none of them changed meanwhile: another process may
// write them. It reports whether the first of them is there.
func settled(files []string, copies func() error) (bool, error) {
	const tries, pause = 40, 50 * time.Millisecond
	state := func() (all string) {
		for _, file := range files {
			_ = filepath.WalkDir(file, func(path string, d fs.DirEntry, err error) error {
				if err == nil {
					if i, err := d.Info(); err == nil {
						all += fmt.Sprintln(path, i.Size(), i.ModTime().UnixNano())
					}
				}
				return nil
			})
		}
		return all
	}
	for n := 1; ; n++ {
		before := state()
		if _, err := os.Stat(files[0]); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		err := copies()
		if before == state() {
			return true, err
		}
		if n == tries {
			return true, errors.New("another process changes it all the time: ask that one's server")
		}
		time.Sleep(pause)
	}
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
