package filejobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/tempdir"
)

// SplitOptions are those of [Split].
type SplitOptions struct {
	By      string // the fields whose values make the files
	Dir     string // for the files; Force writes to one that is not empty
	MaxSize int64  // of a file, in bytes; 0 is any
}

// splitEngine is one run of [Split]. The records are sorted by their key, so that
// each file is written in one go.
type splitEngine struct {
	SplitOptions
	fields []records.Field
	exists bool // Dir does
}

// Split returns what writes a file for each value.
func Split(o SplitOptions) Engine { return &splitEngine{SplitOptions: o} }

func (s *splitEngine) plan(j *job) (err error) {
	j.elsewhere = true
	if s.fields, err = j.fields("by", s.By); err != nil {
		return err
	}
	exists, empty, err := emptyOrNone(s.Dir)
	if err != nil {
		return err
	}
	if !empty && !j.Force {
		return fmt.Errorf("the directory %s is not empty: --force writes to it anyway, and replaces files of the same names", s.Dir)
	}
	s.exists = exists
	return nil
}

func (s *splitEngine) run(ctx context.Context, j *job) (err error) {
	// On the file system of Dir, so that files can be moved there.
	place := s.Dir
	if !s.exists {
		place = filepath.Dir(filepath.Clean(place))
	}
	undo, err := makeParents(place)
	defer func() {
		if err != nil {
			undo()
		}
	}()
	if err != nil {
		return err
	}
	beside, err := tempdir.New([]string{place}, nil)
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, beside.Close()) }()
	w, err := newSplitWriter(s, j, beside)
	if err != nil {
		return err
	}
	sorter, err := j.newSorter(ctx, j.engineMemory(), true)
	if err != nil {
		return err
	}
	if err := j.read(ctx, s.fields, j.sortBy(sorter, placeByCSV)); err != nil {
		return err
	}
	if w.conv, err = newConverter(j, &w.header); err != nil {
		return err
	}
	j.Bar.Wait("writing the files", nil)
	if err := w.writeAll(ctx, sorter); err != nil {
		return joinErrors(err, w.end())
	}
	stats := sorter.Stats()
	if w.records != j.Tally.Records || w.bytes != j.Tally.RecordBytes && j.To == j.From {
		return fmt.Errorf("%d records of %d bytes were read, but %d of %d bytes written", j.Tally.Records, j.Tally.RecordBytes, w.records, w.bytes)
	}
	if w.wrote != w.full {
		return fmt.Errorf("the files should have %d bytes, but %d were written", w.full, w.wrote)
	}
	if err := w.publish(s.Dir, s.exists); err != nil {
		return err
	}
	j.report("files_written", "files", int64(len(w.names)))
	j.report("keys", "keys", w.keys)
	j.report("directory", "directory", s.Dir)
	j.report("proof", "proof", fmt.Sprintf("%s records in, as many in the files; the sum of the hashes of all keys and records is %v, in and out", humanize.Comma(w.records), stats.Sum))
	return nil
}

// placeByCSV sorts a record by its fields as a line of CSV has them.
func placeByCSV(b *records.Block, r *sortRecord) (bool, error) {
	r.key = b.Fields[0]
	if len(b.Fields) > 1 {
		r.buf = AppendCSV(r.buf, b.Fields, ',')
		r.key = r.buf
	}
	return true, nil
}

func (w *splitWriter) writeAll(ctx context.Context, sorter *extsort.Sorter) error {
	for b, err := range sorter.Sorted() {
		if err != nil {
			return err
		}
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		for i := range b.Len() {
			if !b.SameKey(i) {
				if err := w.next(b.Key(i)); err != nil {
					return err
				}
			}
			if err := w.add(b.Record(i)); err != nil {
				return err
			}
		}
	}
	return w.end()
}

var errNoKey = errors.New("a record before the first key: the temporary data are damaged")

// emptyOrNone reports whether a directory exists, and whether it holds nothing.
func emptyOrNone(dir string) (exists, empty bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return false, true, nil
	case err != nil:
		return false, false, err
	case !info.IsDir():
		return true, false, optionErrorf("--dir %s is a file, not a directory", dir)
	}
	// What a killed run left in it does not count, and New removes it.
	if _, err := tempdir.New([]string{dir}, nil); err != nil {
		return true, false, err
	}
	entries, err := os.ReadDir(dir)
	return true, err == nil && len(entries) == 0, nil
}

// makeParents makes a directory with those above it, and returns what removes
// those that were made, as far as they are empty.
func makeParents(dir string) (undo func(), err error) {
	var made []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		made = append(made, d)
	}
	return func() {
		for _, d := range made {
			_ = os.Remove(d) // another may have put something into it
		}
	}, os.MkdirAll(dir, 0o777)
}
