package filejobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// SplitOptions configures [Split].
type SplitOptions struct {
	By      string // fields; their values name the files
	Dir     string // directory for the files; Options.Force is required if it already contains files
	MaxSize int64  // maximum size of a file in bytes; 0 means no limit
	Append  bool   // add to the files of earlier runs
	Replace bool   // remove the files of earlier runs for keys that this run does not have
}

// splitEngine runs [Split]. It sorts the records by key, so that only one file is open at a time.
type splitEngine struct {
	SplitOptions
	fields []records.Field
}

// Split returns an engine that writes a file for each value of the fields.
func Split(o SplitOptions) Engine { return &splitEngine{SplitOptions: o} }

func (s *splitEngine) Plan(j *Job) (err error) {
	j.writesFiles = true
	s.fields, err = j.ResolveFields("by", s.By)
	if err != nil {
		return err
	}
	if j.Force || s.Append || s.Replace {
		if err := output.CheckInputs(s.Dir, j.Files); err != nil {
			return err
		}
	}
	err = output.CheckDir(s.Dir)
	switch {
	case errors.Is(err, output.ErrIsFile):
		return OptionErrorf("--dir %s is a file, not a directory", s.Dir)
	case errors.Is(err, output.ErrFinished) && (j.Force || s.Replace):
		j.Notes = append(j.Notes, err.Error())
		return nil
	case errors.Is(err, output.ErrFinished):
		return fmt.Errorf("%w: run again only to add these records once more", err)
	case errors.Is(err, output.ErrNotEmpty) && (j.Force || s.Append || s.Replace):
		return nil
	case errors.Is(err, output.ErrNotEmpty):
		return fmt.Errorf("the directory %s is not empty: add --append to add to the files of earlier runs, --replace to replace all of them, or --force if it has no files of other keys", s.Dir)
	}
	return err
}

func (s *splitEngine) Run(ctx context.Context, j *Job) (err error) {
	// Temporary files are on the file system of Dir, so that they can be renamed into Dir.
	dir, err := output.CreateDir(s.Dir)
	if err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			err = JoinErrors(err, dir.Abort())
		}
	}()
	w := newSplitWriter(s, j, dir)
	dir.IsKeyFile, dir.Durable = w.isKeyFile, s.Append || s.Replace
	switch {
	case s.Replace:
		dir.Others = output.RemoveOthers
	case !s.Append:
		dir.Others = output.RefuseOthers
	}
	sorter, err := j.NewSorter(ctx, j.engineMemory(), true)
	if err != nil {
		return err
	}
	if err := j.Read(ctx, s.fields, j.sortBy(sorter, setCSVKey)); err != nil {
		return err
	}
	w.converter, err = newConverter(j, &w.header)
	if err != nil {
		return err
	}
	if s.Append || s.Replace {
		if err := w.checkExtensions(s.Dir); err != nil {
			return err
		}
	}
	j.Bar.Wait("writing the files", nil)
	if err := w.writeAll(ctx, sorter); err != nil {
		return JoinErrors(adviseSpace(err, "set --dir to a directory on a disk with more space", dir.Parent()), w.end())
	}
	stats := sorter.Stats()
	if w.recordCount != j.Tally.Records || w.inputBytes != j.Tally.RecordBytes && j.To == j.From {
		return fmt.Errorf("%d records (%d bytes) were read, but %d records (%d bytes) were written", j.Tally.Records, j.Tally.RecordBytes, w.recordCount, w.inputBytes)
	}
	if w.written != w.expected {
		return fmt.Errorf("%d bytes were written to the files instead of %d", w.written, w.expected)
	}
	committed = true
	err = dir.Commit()
	if errors.Is(err, output.ErrOtherKeys) {
		return fmt.Errorf("%w: add --append to add to the files of earlier runs, or --replace to remove those that this run does not write", err)
	}
	if err != nil {
		return err
	}
	j.Report("files_written", "files", int64(dir.Files()))
	j.Report("keys", "keys", w.keyCount)
	j.Report("directory", "directory", s.Dir)
	j.Report("proof", "proof", fmt.Sprintf("%s records in, the same number in the files; the hashes of all keys and records add up to %v, in and out", humanize.Comma(w.recordCount), stats.Sum))
	return nil
}

// setCSVKey sets a record's sort key: the field if there is only one, otherwise a CSV line.
func setCSVKey(b *records.Block, r *sortRecord) (bool, error) {
	r.key = b.Fields[0]
	if len(b.Fields) > 1 {
		r.buf = AppendCSVKey(r.buf, b.Fields)
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
