package filejobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// SplitOptions configures [Split].
type SplitOptions struct {
	By      string // fields; their values name the files
	Dir     string // directory for the files; Options.Force is required if it already contains files
	MaxSize int64  // maximum size of a file in bytes; 0 means no limit
}

// splitEngine runs [Split]. It sorts the records by key, so that only one file is open at a time.
type splitEngine struct {
	SplitOptions
	fields []records.Field
	exists bool // whether Dir exists
}

// Split returns an engine that writes a file for each value of the fields.
func Split(o SplitOptions) Engine { return &splitEngine{SplitOptions: o} }

func (s *splitEngine) Plan(j *Job) (err error) {
	j.writesFiles = true
	if s.fields, err = j.ResolveFields("by", s.By); err != nil {
		return err
	}
	exists, empty, err := statDir(s.Dir)
	if err != nil {
		return err
	}
	if !empty && !j.Force {
		return fmt.Errorf("the directory %s is not empty: add --force to write there anyway and replace files with the same names", s.Dir)
	}
	s.exists = exists
	return nil
}

func (s *splitEngine) Run(ctx context.Context, j *Job) (err error) {
	// Use the file system of Dir for temporary files, so that they can be moved to Dir.
	dir := s.Dir
	if !s.exists {
		dir = filepath.Dir(filepath.Clean(dir))
	}
	undo, err := makeDirs(dir)
	defer func() {
		if err != nil {
			undo()
		}
	}()
	if err != nil {
		return err
	}
	nearby, err := tempdir.New([]string{dir}, nil)
	if err != nil {
		return err
	}
	defer func() { err = JoinErrors(err, nearby.Close()) }()
	w, err := newSplitWriter(s, j, nearby)
	if err != nil {
		return err
	}
	sorter, err := j.NewSorter(ctx, j.engineMemory(), true)
	if err != nil {
		return err
	}
	if err := j.Read(ctx, s.fields, j.sortBy(sorter, setCSVKey)); err != nil {
		return err
	}
	if w.converter, err = newConverter(j, &w.header); err != nil {
		return err
	}
	j.Bar.Wait("writing the files", nil)
	if err := w.writeAll(ctx, sorter); err != nil {
		return JoinErrors(adviseSpace(err, "set --dir to a directory on a disk with more space", dir), w.end())
	}
	stats := sorter.Stats()
	if w.records != j.Tally.Records || w.bytes != j.Tally.RecordBytes && j.To == j.From {
		return fmt.Errorf("%d records (%d bytes) were read, but %d records (%d bytes) were written", j.Tally.Records, j.Tally.RecordBytes, w.records, w.bytes)
	}
	if w.written != w.expected {
		return fmt.Errorf("%d bytes were written to the files instead of %d", w.written, w.expected)
	}
	if err := w.publish(s.Dir, s.exists); err != nil {
		return err
	}
	j.Report("files_written", "files", int64(len(w.names)))
	j.Report("keys", "keys", w.keys)
	j.Report("directory", "directory", s.Dir)
	j.Report("proof", "proof", fmt.Sprintf("%s records in, the same number in the files; the hashes of all keys and records add up to %v, in and out", humanize.Comma(w.records), stats.Sum))
	return nil
}

// setCSVKey sets a record's sort key: the field if there is only one, otherwise a CSV line.
func setCSVKey(b *records.Block, r *sortRecord) (bool, error) {
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
				if err := w.startFile(b.Key(i)); err != nil {
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

var errNoKey = errors.New("temporary data is damaged: a record precedes the first key")

func statDir(dir string) (exists, empty bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return false, true, nil
	case err != nil:
		return false, false, err
	case !info.IsDir():
		return true, false, OptionErrorf("--dir %s is a file, not a directory", dir)
	}
	// tempdir.New removes the temporary files of a killed run, so that they do not count as
	// content.
	if _, err := tempdir.New([]string{dir}, nil); err != nil {
		return true, false, err
	}
	entries, err := os.ReadDir(dir)
	return true, err == nil && len(entries) == 0, nil
}

// makeDirs creates a directory and its missing parents. undo removes the created directories that
// are empty.
func makeDirs(dir string) (undo func(), err error) {
	var created []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		created = append(created, d)
	}
	return func() {
		for _, d := range created {
			_ = os.Remove(d) // ignore the error: the directory may not be empty
		}
	}, os.MkdirAll(dir, 0o777)
}
