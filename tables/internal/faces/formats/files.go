package formats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// ListFiles returns paths, with each directory replaced by the files in it and its subdirectories, in order of their
// names. Like other programs, it omits names that begin with a dot or an underscore.
func ListFiles(paths []string) (files []string, err error) {
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			files = append(files, path) // opening the file reports the error
			continue
		}
		before := len(files)
		err := filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
			isHidden := file != path && strings.ContainsRune("._", rune(e.Name()[0]))
			switch {
			case err != nil:
				return err
			case isHidden && e.IsDir():
				return fs.SkipDir
			case file != path && e.IsDir() && strings.Contains(e.Name(), "="):
				return fmt.Errorf("%s: columns in directory names are not read: to read the files without this column, list them, for example with %s", file, filepath.Join(path, "*", "*.parquet"))
			case !isHidden && !e.IsDir():
				files = append(files, file)
			}
			return nil
		})
		if err == nil && len(files) == before {
			err = fmt.Errorf("%s: the directory contains no files", path)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, errors.New("there are no files to read")
	}
	return files, nil
}

// ReadFiles returns a reader of the rows of several files, one file after another. open opens a file; at most one file
// is open at a time, apart from temporary copies of pipes. All files must have the columns of the first one, in any
// order. Text files get the types that they would have as a single file. If there are Parquet or Arrow files, all rows
// get the types in the first of these files. The types in other files may differ only in how Arrow stores the values,
// such as large_utf8. The caller must release the reader.
func ReadFiles(ctx context.Context, files []string, open func(file string) (*Input, error)) (array.RecordReader, error) {
	readers, err := ReadEach(ctx, files, open)
	if err != nil {
		return nil, err
	}
	rows := make([]batches.Seq, len(readers))
	for i, r := range readers {
		rows[i] = batches.Of(r)
	}
	return batches.Reader(readers[0].Schema(), batches.Concat(rows...), func() { take.Release(readers) }), nil
}

// ReadEach is like [ReadFiles], but returns a reader for each file. A reader opens its file when its first row is read.
// The caller must release all readers, and the first one only when the others are no longer read.
func ReadEach(ctx context.Context, files []string, open func(file string) (*Input, error)) (_ []array.RecordReader, err error) {
	types := &fileTypes{}
	if len(files) > 1 {
		types, err = inferTypes(ctx, files, open)
		if err != nil {
			return nil, err
		}
	}
	firstIndex := 0
	for types.isEmpty(firstIndex) {
		firstIndex++
	}
	first, closeFirst, err := types.openRows(ctx, firstIndex, files, open)
	if err != nil {
		types.close()
		return nil, err
	}
	columns := first.Schema()
	types.known = columns
	readers := make([]array.RecordReader, len(files))
	for i, file := range files {
		readers[i] = batches.Reader(columns, func(yield func(arrow.RecordBatch, error) bool) {
			if types.isEmpty(i) {
				return
			}
			r, closeRows, err := first, closeFirst, error(nil)
			if i == firstIndex {
				closeFirst = func() {}
			} else {
				r, closeRows, err = types.openRows(ctx, i, files, open)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			defer closeRows()
			positions, err := positionsOf(columns, r.Schema())
			if err != nil {
				yield(nil, fmt.Errorf("%s: the columns differ from those of %s: %w", file, files[firstIndex], err))
				return
			}
			batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return reorder(b, positions, columns) })(yield)
		}, func() {
			if i == 0 {
				closeFirst()
				types.close()
			}
		})
	}
	return readers, nil
}

// positionsOf returns the index of each column in another schema, or an error that says how that schema differs.
func positionsOf(columns, in *arrow.Schema) ([]int, error) {
	positions := make([]int, columns.NumFields())
	used := map[string]int{} // names can repeat
	for i, f := range columns.Fields() {
		n := used[f.Name]
		used[f.Name]++
		same := in.FieldIndices(f.Name)
		if n == len(same) {
			return nil, fmt.Errorf("there is no column %q", f.Name)
		}
		positions[i] = same[n]
		if t := in.Field(same[n]).Type; !arrow.TypeEqual(f.Type, t) && !arrow.TypeEqual(shortForm(f.Type), shortForm(schema.DecodedType(t))) {
			return nil, fmt.Errorf("column %q is %s, not %s", f.Name, t, f.Type)
		}
	}
	for name, n := range countNames(in) {
		if n > used[name] {
			return nil, fmt.Errorf("there is another column %q", name)
		}
	}
	return positions, nil
}

func countNames(s *arrow.Schema) map[string]int {
	names := map[string]int{}
	for _, f := range s.Fields() {
		names[f.Name]++
	}
	return names
}

// shortForm returns t with large types and view types replaced by the ordinary types, such as large_utf8 by utf8. Which
// of these types a file has depends only on the program that wrote it.
func shortForm(t arrow.DataType) arrow.DataType {
	form := func(t arrow.DataType) arrow.DataType {
		if list, ok := t.(*arrow.LargeListType); ok {
			return arrow.ListOfField(list.ElemField())
		}
		return cmp.Or(arrowtype.Of(t).Plain, t)
	}
	return form(schema.MapFields(t, func(f arrow.Field) arrow.Field {
		f.Type = form(f.Type)
		return f
	}))
}

func reorder(b arrow.RecordBatch, positions []int, columns *arrow.Schema) (arrow.RecordBatch, error) {
	return take.MakeBatch(columns, b.NumRows(), func(i int) (arrow.Array, error) {
		return schema.ConvertArray(b.Column(positions[i]), columns.Field(i).Type)
	})
}
