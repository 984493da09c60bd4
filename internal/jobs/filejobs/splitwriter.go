package filejobs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	oldFields int    // number of fields in the first record of oldName; 0 if unknown or already compared
	oldName   string // path of the continued file

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

// isKeyFile reports whether a split with the same extension could have written the given file.
func (w *splitWriter) isKeyFile(file string, isDir bool) bool {
	return !isDir && isKeyName(file, w.ext)
}

// isKeyName reports whether a split whose files have the extension ext could have written the given file. If ext is "",
// it rejects names with a period, because the period may begin an extension.
func isKeyName(file, ext string) bool {
	base, ok := strings.CutSuffix(file, ext)
	ok = ok && (ext != "" || !strings.Contains(file, "."))
	name, number, isPart := strings.Cut(base, "~")
	if isPart {
		n, err := strconv.Atoi(number)
		ok = ok && err == nil && n > 1 && strconv.Itoa(n) == number
	}
	_, kind := names.Scheme{}.Parse(name)
	if kind == names.Foreign { // the name may be from a file system that ignores case
		_, kind = names.Scheme{FoldsCase: true}.Parse(name)
	}
	return ok && (kind == names.Short || kind == names.Long)
}

// checkExtensions returns an error if the directory has a key file in the format of this run with another extension: this
// run would neither continue nor replace that file. w.header must be set.
func (w *splitWriter) checkExtensions(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext == w.ext || !e.Type().IsRegular() || !isKeyName(e.Name(), ext) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		isSame := w.layout.Format != records.Text && records.FormatOf(e.Name()) == w.layout.Format
		if header := bytes.TrimRight(w.header.Bytes(), "\r\n"); !isSame && len(header) > 0 && w.ext != "" {
			isSame, err = beginsWithLine(path, header)
			if err != nil {
				return err
			}
		}
		if isSame {
			return fmt.Errorf("%s: the file has the format of this run, but not its extension %q, which comes from the first FILE or --to-format: rename the earlier files or the first FILE, or use another --dir", path, w.ext)
		}
	}
	return nil
}

// beginsWithLine reports whether a file begins with a line.
func beginsWithLine(path string, line []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	start := make([]byte, len(line)+1)
	n, err := io.ReadFull(f, start)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	rest, ok := bytes.CutPrefix(start[:n], line)
	return ok && len(bytes.Trim(rest, "\r\n")) == 0, errors.Join(err, f.Close())
}

// continueFile copies the last part of the current key's file from an earlier run to f, which becomes the current file. If
// there is no such file, it does nothing. If it fails before f is the
// current file, it closes f.
func (w *splitWriter) continueFile(f *os.File) (err error) {
	old, part, err := w.dir.OpenLastPart(w.partName)
	if err == nil && old == nil {
		return nil
	}
	if err != nil {
		return JoinErrors(err, f.Close())
	}
	defer func() { _ = old.Close() }() // it was only read
	err = w.checkColumns(old)
	if err != nil {
		return JoinErrors(err, f.Close())
	}
	w.file, w.part = f, part
	w.buf.Reset(w)
	var quotes quoteScanner
	to := io.Writer(w.buf)
	if w.layout.Format == records.CSV {
		quotes.separator = w.layout.Separator()[0]
		to = io.MultiWriter(w.buf, &quotes)
	}
	w.size, err = output.CopyAll(to, old)
	w.expected += w.size
	if err == nil && quotes.isOpen {
		err = fmt.Errorf("%s: its end is damaged: a quoted field is never closed, so records cannot be added", old.Name())
	}
	return err
}

// quoteScanner determines whether CSV ends within a quoted field. Quotes inside an unquoted field are data.
type quoteScanner struct {
	separator     byte
	isOpen        bool
	isWithinField bool // a byte of the current field was read
	wasQuoted     bool // the last byte is in a quoted field or its closing quote
}

func (q *quoteScanner) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '"' && q.isWithinField && !q.isOpen && q.wasQuoted:
			q.isOpen = true // the second of two quotes in a quoted field
		case q.isOpen:
			q.isOpen = c != '"'
		case c == '"' && !q.isWithinField:
			q.isOpen, q.isWithinField, q.wasQuoted = true, true, true
		default:
			q.isWithinField = c != q.separator && c != '\n'
			q.wasQuoted = false
		}
	}
	return len(p), nil
}

// checkColumns returns an error if a file's header differs from the one that this run writes. Without headers, it sets
// oldFields, so that add compares the numbers of fields.
func (w *splitWriter) checkColumns(old *os.File) error {
	start, err := records.ReadStart(old.Name(), old, w.layout, w.maxRecord)
	if err != nil {
		return err
	}
	if f := w.layout.Format; !w.layout.HasHeader() && (f == records.CSV || f == records.TSV) {
		if len(start.Read) < records.StartSize { // it is the whole file, whose end may have no newline
			start.Read = append(start.Read, '\n')
		}
		w.oldFields, w.oldName = fieldCount(w.layout, start.Read), old.Name()
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

// fieldCount returns the number of fields in the first valid record, or 0 if data has no complete record.
func fieldCount(layout records.Layout, data []byte) int {
	s := records.NewFieldSplitter(layout, nil)
	s.Feed(data, false)
	for {
		switch s.Next() {
		case records.Data:
			return len(s.Values)
		case records.Blank, records.Bad:
		default:
			return 0
		}
	}
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
	if w.oldFields > 0 {
		if n := fieldCount(w.layout, out); n != w.oldFields {
			return fmt.Errorf("%s: its first record has %d fields, but the first record to append has %d", w.oldName, w.oldFields, n)
		}
		w.oldFields = 0
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
