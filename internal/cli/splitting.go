package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/zfile"
)

// splitting is one run of partd split. The records are sorted by their key, so
// that each file is written in one go.
type splitting struct {
	flags splitFlags
	force bool
	first string // the first file, whose extension is kept

	fields []records.Field
	exists bool // DIR does
	keys   [][]byte
	sorter *extsort.Sorter
}

func (s *splitting) plan(j *fileJob) (err error) {
	if s.fields, err = resolveBy(*s.flags.by, j.layout, j.files.columns); err != nil {
		return fieldError("by", *s.flags.by, j, err)
	}
	for i := range s.fields {
		s.fields[i].Optional = true
	}
	s.keys = make([][]byte, *j.in.threads)
	exists, empty, err := emptyOrNone(*s.flags.dir)
	if err != nil {
		return err
	}
	if !empty && !s.force {
		return fmt.Errorf("the directory %s is not empty: --force writes to it all the same, and replaces files of the same names", *s.flags.dir)
	}
	s.exists = exists
	return nil
}

// extension returns what the names of the files end in.
func (s *splitting) extension(j *fileJob) string {
	ext := filepath.Ext(zfile.TrimName(s.first))
	if s.first != stdin && j.to.Format == j.layout.Format {
		return ext
	}
	return map[records.Format]string{records.CSV: ".csv", records.TSV: ".tsv", records.JSONL: ".jsonl", records.Text: ".txt"}[j.to.Format]
}

func (s *splitting) run(parent context.Context, j *fileJob) (err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	// On the file system of DIR, so that files can be moved there.
	place := *s.flags.dir
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
	defer func() { err = alsoFailed(err, beside.Close()) }()
	w, err := newSplitWriter(s, j, beside)
	if err != nil {
		return err
	}
	s.sorter, err = extsort.New(ctx, &extsort.Options{Memory: j.engineMemory(), Threads: *j.in.threads, Temp: j.temp, KeepKeys: true})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, s.sorter.Close()) }()
	if err := j.read(ctx, cancel, s.fields, s.use); err != nil {
		return err
	}
	if w.conv, err = newConverter(j, (*appender)(&w.header)); err != nil {
		return err
	}
	j.bar.Wait("writing the files", nil)
	if err := s.write(ctx, w); err != nil {
		return alsoFailed(err, w.abort())
	}
	stats := s.sorter.Stats()
	if w.records != j.tally.Records || w.bytes != j.tally.RecordBytes && j.to == j.layout {
		return fmt.Errorf("%d records of %d bytes were read, but %d of %d bytes written", j.tally.Records, j.tally.RecordBytes, w.records, w.bytes)
	}
	if w.wrote != w.full {
		return fmt.Errorf("the files should have %d bytes, but %d were written", w.full, w.wrote)
	}
	if err := w.publish(*s.flags.dir, s.exists); err != nil {
		return err
	}
	j.report.add("files_written", "files", w.files)
	j.report.add("keys", "keys", w.keys)
	j.report.add("directory", "directory", *s.flags.dir)
	j.report.add("proof", "proof", fmt.Sprintf("%s records in, as many in the files; the sum of the hashes of all keys and records is %v, in and out", commas(w.records), stats.Sum))
	return nil
}

// use sorts the records of a block.
func (s *splitting) use(b *records.Block) (err error) {
	w, err := s.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
	buf := s.keys[b.Worker]
	defer func() { s.keys[b.Worker] = buf }()
	for b.Next() {
		key := b.Fields[0]
		if len(b.Fields) > 1 {
			buf = appendCSV(buf[:0], b.Fields, ',')
			key = buf
		}
		if err := w.Add(key, b.Record); err != nil {
			return tooLong(b, err)
		}
	}
	return nil
}

// write writes the files.
func (s *splitting) write(ctx context.Context, w *splitWriter) error {
	for b, err := range s.sorter.Sorted() {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
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
