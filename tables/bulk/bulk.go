// Package bulk splits, sorts and groups rows that do not fit in memory, without a table. The rows come from Parquet,
// Arrow, CSV and JSON lines files, or from any reader of Arrow record batches. Nested columns and metadata are kept, and
// so are the types that the file format supports.
//
// [Split] writes a file for each key. The rows of the first keys go directly to their files. The rows of all other keys
// are appended to a temporary log store as pieces of record batches and read back once, so the number of keys is not
// limited. [Sort] sorts blocks of rows in memory and merges them. [Merge] merges inputs that are sorted already. [Each]
// divides the rows into parts and calls a function for each part. A part has all rows of its keys, so the function can
// group, join or sort them in memory.
//
// # Experimental
//
// Everything in this package may change in any minor version; docs/versions.md says how the API is graded.
package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// DefaultMemory is the default limit for the memory of a job, in bytes.
const DefaultMemory = 256 << 20

var minMemory int64 = 64 << 20 // tests use less

// Open returns a reader of the rows of files, one after another. A directory stands for the files in and below it,
// except those whose names begin with "." or "_". The file names determine the formats, as in docs/import.md. Text
// files may be compressed; their columns get the types that they would have if all text were in one file. All files
// must have the columns of the first file, in any order. At most one file is open at a time. The caller must release
// the reader.
func Open(ctx context.Context, paths ...string) (array.RecordReader, error) {
	files, err := formats.ListFiles(paths)
	if err == nil {
		err = records.CheckStreams(nil, files...)
	}
	if err != nil {
		return nil, fmt.Errorf("bulk: open: %w", err)
	}
	return formats.ReadFiles(ctx, files, func(name string) (*formats.Input, error) {
		format, err := formats.Standard().ForInput(name)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(name)
		return &formats.Input{Name: name, File: f, Format: format}, err
	})
}

// memoryLimit returns n, or DefaultMemory if n is 0. It returns an error if n is too small.
func memoryLimit(n int64) (int64, error) {
	n = cmp.Or(n, DefaultMemory)
	if n < minMemory {
		return 0, fmt.Errorf("the memory limit is %d bytes: use at least %d", n, minMemory)
	}
	return n, nil
}

// positions returns the indices of the named columns.
func positions(s *arrow.Schema, columns []string) (_ []int, err error) {
	if len(columns) == 0 {
		return nil, errors.New("no columns are named")
	}
	indices := make([]int, len(columns))
	for i, name := range columns {
		indices[i], err = schema.ColumnIndex(s, name)
		if err != nil {
			return nil, err
		}
	}
	return indices, nil
}
