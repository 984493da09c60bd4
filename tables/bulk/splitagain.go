package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// createFile creates the file of a key. If an earlier run wrote a file for the key, and its rows must be copied to the
// new file, oldPath is the old file's path.
func (s *splitter) createFile(texts []*string) (f *os.File, oldPath string, err error) {
	ext := "." + s.format.Name
	if s.Hive {
		letterSets := hiveLetters
		if keepsCase, err := s.dir.KeepsCase(); err != nil {
			return nil, "", err
		} else if !keepsCase {
			letterSets = letterSets[1:] // the values A and a need different names
		}
		for _, letters := range letterSets {
			f, err = s.createHive(texts, ext, letters)
			if !errors.Is(err, fs.ErrExist) {
				break
			}
		}
		return f, "", err
	}
	name := nullName
	if len(texts) == 1 && texts[0] == nil {
		f, err = s.dir.CreateAt(nullName + ext)
	} else {
		f, name, err = s.dir.CreateFile(plainName(texts), ext)
	}
	if err == nil && s.Append {
		oldPath = s.dir.Existing(name + ext)
	}
	if oldPath != "" {
		err = s.dir.Continue(name + ext)
	}
	return f, oldPath, err
}

// createHive creates the file of a key in Hive's layout. The letters in the values are escaped; see hiveLetters.
func (s *splitter) createHive(texts []*string, ext, letters string) (*os.File, error) {
	dir, err := hivePath(s.By, texts, letters)
	if err != nil {
		return nil, err
	}
	name := dir + "/data" + ext
	for n := 2; s.Append && s.dir.Existing(name) != ""; n++ {
		name = dir + "/data-" + strconv.Itoa(n) + ext
	}
	return s.dir.CreateAt(name)
}

// continueText copies a CSV or JSON lines file from an earlier run and sets f.writer, which writes after it. It copies
// the text, because writing parsed values could change them: 007 would become 7 if the column contains only numbers.
func (s *splitter) continueText(ctx context.Context, f *file, oldPath string) error {
	r, err := s.openOld(ctx, oldPath) // this reads the whole file to find damage
	if err != nil {
		return err
	}
	r.Release()
	old, err := os.Open(oldPath)
	if err != nil {
		return err
	}
	defer old.Close()
	if _, err := output.CopyAll(f, old); err != nil {
		return err
	}
	var header bytes.Buffer
	w, err := s.format.Write(&header, s.columns, formats.WriteOptions{})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		f.writer, err = s.format.Write(&formats.Skipper{Writer: f, N: header.Len()}, s.columns, formats.WriteOptions{})
	}
	return err
}

// openOld returns a reader of the rows of a file from an earlier run, which must have the columns of this run.
func (s *splitter) openOld(ctx context.Context, oldPath string) (array.RecordReader, error) {
	r, err := formats.ReadFiles(ctx, []string{oldPath}, func(name string) (*formats.Input, error) {
		f, err := os.Open(name)
		return &formats.Input{Name: name, File: f, Format: s.format}, err
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkColumns(r.Schema()); err != nil {
		r.Release()
		return nil, fmt.Errorf("%s: its columns differ from those of the rows to append: %w", oldPath, err)
	}
	return r, nil
}

// copyRows writes the rows of a Parquet or Arrow file from an earlier run to w.
func (s *splitter) copyRows(ctx context.Context, w formats.Writer, oldPath string) error {
	r, err := s.openOld(ctx, oldPath)
	if err != nil {
		return err
	}
	defer r.Release()
	plain := schema.Without(s.columns, arrow.DICTIONARY)
	rows := batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, plain) })
	return batches.ForEach(rows, func(b arrow.RecordBatch) error {
		return batches.ForEach(encode(b.Columns(), b.NumRows(), s.columns), w.Write)
	})
}

// checkColumns returns an error unless this run could have written a file with the given columns.
func (s *splitter) checkColumns(old *arrow.Schema) error {
	if old.NumFields() != s.columns.NumFields() {
		return fmt.Errorf("%d columns instead of %d", old.NumFields(), s.columns.NumFields())
	}
	for i, f := range s.columns.Fields() {
		o := old.Field(i)
		if o.Name != f.Name {
			return fmt.Errorf("column %d is %q instead of %q", i+1, o.Name, f.Name)
		}
		if s.format.Records == 0 && !arrow.TypeEqual(schema.DecodedType(o.Type), schema.DecodedType(f.Type)) {
			return fmt.Errorf("column %q is %s instead of %s", f.Name, o.Type, f.Type)
		}
	}
	return nil
}

// isKeyFile reports whether a split with these columns and this format could have written a file or, with Hive, a
// directory of files.
func (s *splitter) isKeyFile(name string, isDir bool) bool {
	base, ok := strings.CutSuffix(path.Base(name), "."+s.format.Name)
	if !s.Hive {
		return ok && !isDir && !strings.Contains(name, "/") && isPlainName(base)
	}
	dir := name
	if !isDir {
		n := 2
		if base != "data" {
			number, isNumbered := strings.CutPrefix(base, "data-")
			n, _ = strconv.Atoi(number)
			ok = ok && isNumbered && strconv.Itoa(n) == number
		}
		if !ok || n < 2 {
			return false
		}
		dir = path.Dir(name)
	}
	for part := range strings.SplitSeq(dir, "/") { // accept any columns, because another run may have had other keys
		column, value, ok := strings.Cut(part, "=")
		if !ok || column == "" || value != hiveNull && !isHiveValue(value) {
			return false
		}
	}
	return true
}

// isHiveValue reports whether hiveValue can return value.
func isHiveValue(value string) bool {
	text, err := url.PathUnescape(value)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(hiveLetters, func(letters string) bool {
		escaped, err := hiveValue(text, letters)
		return err == nil && escaped == value
	})
}

// isPlainName reports whether a name without extension is that of a key's file.
func isPlainName(name string) bool {
	if name == nullName {
		return true
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return false
	}
	for _, scheme := range []names.Scheme{{}, {FoldsCase: true}} {
		for escape, firstChar := range map[string]string{"": "", "%2E": ".", "%5F": "_"} {
			rest, ok := strings.CutPrefix(name, escape)
			if _, kind := scheme.Parse(firstChar + rest); ok && (kind == names.Short || kind == names.Long) {
				return true
			}
		}
	}
	return false
}
