package filejobs

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"

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
	w := &splitWriter{dir: dir, ext: ext, limit: s.MaxSize}
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
	return w.writeHeader(f)
}

func (w *splitWriter) startPart() error {
	w.part++
	f, err := w.dir.CreateAt(w.name + "~" + strconv.Itoa(w.part) + w.ext)
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
