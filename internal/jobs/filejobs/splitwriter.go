package filejobs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

// splitWriter writes one file after another in a directory.
type splitWriter struct {
	dir       *output.Dir
	ext       string
	header    bytes.Buffer
	limit     int64 // maximum file size in bytes, or 0
	append    bool  // add to the files of earlier runs
	layout    records.Layout
	maxRecord int
	converter *converter

	file      *os.File
	name      string // file name without part number and extension
	part      int
	size      int64 // file size in bytes, including buf
	buf       *bufio.Writer
	recordBuf bytes.Buffer // a converted record

	expected    int64 // total size that the files must have
	written     int64 // total size written
	keyCount    int64
	recordCount int64
	inputBytes  int64 // size of the records before conversion
}

func newSplitWriter(s *splitEngine, j *Job, dir *output.Dir) *splitWriter {
	ext := filepath.Ext(zfile.TrimName(j.Options.Files[0]))
	if j.Options.Files[0] == Stdin || j.To.Format != j.From.Format {
		ext = map[records.Format]string{records.CSV: ".csv", records.TSV: ".tsv", records.JSONL: ".jsonl", records.Text: ".txt"}[j.To.Format]
	}
	w := &splitWriter{dir: dir, ext: ext, limit: s.MaxSize, append: s.Append, layout: j.To, maxRecord: j.Memory.MaxRecord()}
	w.buf = bufio.NewWriterSize(w, 1<<20)
	return w
}

func (w *splitWriter) startFile(key []byte) error {
	if err := w.end(); err != nil {
		return err
	}
	w.keyCount++
	w.part = 1
	f, name, err := w.dir.CreateFile(string(key), w.ext)
	if err != nil {
		return err
	}
	w.name = name
	if w.append {
		if err := w.continueFile(f); err != nil || w.file != nil {
			return err
		}
	}
	return w.writeHeader(f)
}

// partName returns the file name of a part of the current key.
func (w *splitWriter) partName(number int) string {
	if number == 1 {
		return w.name + w.ext
	}
	return w.name + "~" + strconv.Itoa(number) + w.ext
}

// isKeyFile reports whether a split with the same extension could have written a file.
func (w *splitWriter) isKeyFile(file string, isDir bool) bool {
	if isDir {
		return false
	}
	base, ok := strings.CutSuffix(file, w.ext)
	name, number, isPart := strings.Cut(base, "~")
	if isPart {
		n, err := strconv.Atoi(number)
		ok = ok && err == nil && n > 1 && strconv.Itoa(n) == number
	}
	_, kind := names.Scheme{}.Parse(name)
	if kind == names.Foreign { // maybe for a file system that ignores case
		_, kind = names.Scheme{FoldsCase: true}.Parse(name)
	}
	return ok && (kind == names.Short || kind == names.Long)
}

// continueFile copies the last part of the current key's file from an earlier run to f, which becomes the current file. If
// there is no such file, it does nothing. After an error, it closes f.
func (w *splitWriter) continueFile(f *os.File) (err error) {
	old, part, err := w.dir.OpenLastPart(w.partName)
	if err == nil && old == nil {
		return nil
	}
	if err != nil {
		return JoinErrors(err, f.Close())
	}
	defer func() { _ = old.Close() }() // it was only read
	err = w.checkHeader(old)
	if err != nil {
		return JoinErrors(err, f.Close())
	}
	w.file, w.part = f, part
	w.buf.Reset(w)
	w.size, err = output.CopyAll(w.buf, old)
	w.expected += w.size
	return err
}

// checkHeader returns an error if a file has another header than this run writes.
func (w *splitWriter) checkHeader(old *os.File) error {
	start, err := records.ReadStart(old.Name(), old, w.layout, w.maxRecord)
	if err != nil {
		return err
	}
	want, err := records.ReadStart(old.Name(), bytes.NewReader(w.header.Bytes()), w.layout, w.maxRecord)
	if err != nil {
		return err
	}
	if diff := records.DiffColumns(want.Columns, start.Columns); diff != "" {
		return fmt.Errorf("%s: its header differs from that of the records to append: %s", old.Name(), diff)
	}
	_, err = old.Seek(0, io.SeekStart)
	return err
}

func (w *splitWriter) startPart() error {
	w.part++
	if existing := w.dir.Existing(w.partName(w.part)); w.append && existing != "" {
		return fmt.Errorf("%s exists, but the part before it, %s, is missing: restore it, or rename the parts after it", existing, w.partName(w.part-1))
	}
	f, err := w.dir.CreateAt(w.partName(w.part))
	if err != nil {
		return err
	}
	return w.writeHeader(f)
}

// writeHeader makes f the current file and writes the header to it.
func (w *splitWriter) writeHeader(f *os.File) error {
	w.file = f
	w.size = int64(w.header.Len())
	w.expected += w.size
	w.buf.Reset(w)
	_, err := w.buf.Write(w.header.Bytes())
	return err
}

func (w *splitWriter) add(record []byte) error {
	if w.file == nil {
		return errNoKey
	}
	w.recordCount++
	w.inputBytes += int64(len(record))
	out := record
	if w.converter.rows != nil {
		w.recordBuf.Reset()
		if err := w.converter.write(&w.recordBuf, record); err != nil {
			return err
		}
		out = w.recordBuf.Bytes()
	}
	w.expected += int64(len(out))
	if w.limit > 0 && w.size+int64(len(out)) > w.limit && w.size > int64(w.header.Len()) {
		if err := w.end(); err != nil {
			return err
		}
		if err := w.startPart(); err != nil {
			return err
		}
	}
	w.size += int64(len(out))
	_, err := w.buf.Write(out)
	return err
}

func (w *splitWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.written += int64(n)
	return n, err
}

func (w *splitWriter) end() error {
	if w.file == nil {
		return nil
	}
	err := JoinErrors(w.buf.Flush(), w.file.Close())
	w.file = nil
	return err
}
