package filejobs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

// splitWriter writes one file after another in a temporary directory. At the end, the temporary
// directory becomes the target directory. If the target exists, the files are moved there instead.
type splitWriter struct {
	tempDir   string
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

	expected int64 // total size that the files must have
	written  int64 // total size written
	names    []string
	keys     int64
	records  int64
	bytes    int64
}

func newSplitWriter(s *splitEngine, j *Job, nearby *tempdir.Set) (*splitWriter, error) {
	dir, err := nearby.Mkdir()
	if err != nil {
		return nil, err
	}
	ext := filepath.Ext(zfile.TrimName(j.Options.Files[0]))
	if j.Options.Files[0] == Stdin || j.To.Format != j.From.Format {
		ext = map[records.Format]string{records.CSV: ".csv", records.TSV: ".tsv", records.JSONL: ".jsonl", records.Text: ".txt"}[j.To.Format]
	}
	w := &splitWriter{tempDir: filepath.Join(dir, "files"), ext: ext, limit: s.MaxSize}
	w.buf = bufio.NewWriterSize(w, 1<<20)
	return w, os.Mkdir(w.tempDir, 0o777)
}

// nameOfKey returns the file name for a key, without extension. A long key is replaced by its hash.
func nameOfKey(scheme names.Scheme, key, ext string) string {
	const maxName, part = 255, len("~1000000000")
	name := scheme.Name(key)
	if len(name)+part+len(ext) > maxName {
		sum := sha256.Sum256([]byte(key))
		name = "%h" + hex.EncodeToString(sum[:])
	}
	return name
}

func (w *splitWriter) startFile(key []byte) error {
	if err := w.end(); err != nil {
		return err
	}
	w.keys++
	w.name, w.part = nameOfKey(names.Scheme{}, string(key), w.ext), 1
	err := w.open()
	if errors.Is(err, fs.ErrExist) {
		// The file system ignores case, and a key that differs only in case already has this name.
		w.name = nameOfKey(names.Scheme{FoldsCase: true}, string(key), w.ext)
		err = w.open()
	}
	return err
}

func (w *splitWriter) open() error {
	name := w.name
	if w.part > 1 {
		name += "~" + strconv.Itoa(w.part)
	}
	name += w.ext
	f, err := os.OpenFile(filepath.Join(w.tempDir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w.file = f
	w.names = append(w.names, name)
	w.size = int64(w.header.Len())
	w.expected += w.size
	w.buf.Reset(w)
	_, err = w.buf.Write(w.header.Bytes())
	return err
}

func (w *splitWriter) add(record []byte) error {
	if w.file == nil {
		return errNoKey
	}
	w.records++
	w.bytes += int64(len(record))
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
		w.part++
		if err := w.open(); err != nil {
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

// publish renames the temporary directory to dir or, if dir exists, moves the files there.
func (w *splitWriter) publish(dir string, exists bool) error {
	if !exists {
		return os.Rename(w.tempDir, dir)
	}
	for i, name := range w.names {
		if err := os.Rename(filepath.Join(w.tempDir, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%w (%s of %d were already moved)", err, textfmt.Plural(int64(i), "file"), len(w.names))
		}
	}
	return nil
}
