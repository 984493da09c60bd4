package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/formats"
	"github.com/go-partd/partd/tables/internal/rowsum"
)

func newImport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --from shoots|pystore [flags] [--] SOURCE",
		Short: "Take over what shoots or pystore wrote",
		Long: `Take over the tables that shoots (its --bucket_dir) or pystore (the directory of one
store) wrote, with their metadata. A collection becomes a bucket; the items of a
snapshot become the tables of a bucket COLLECTION@SNAPSHOT. SOURCE is not changed.

Each table is read again and proved: the number of rows, and a checksum of all
rows in any order. What is there already and the same is left as it is, so the
command can be run again; what is there and differs is an error.`,
		Example: `  partd-tables import --from shoots ./buckets
  partd-tables import --from pystore ~/pystore/mystore --dir tables`,
		Args: cliutil.Takes(1, 1, "SOURCE"),
	}
	p := placeFlags(cmd, anyBucket)
	cmd.ValidArgsFunction = nil // it names files
	from := cmd.Flags().String("from", "", "what wrote SOURCE: `PROGRAM` is shoots or pystore")
	when := cliutil.ProgressFlag(cmd)
	cliutil.Complete(cmd, "from", "shoots", "pystore")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		find, ok := sources[*from]
		if !ok {
			return cliutil.Usagef("--from is shoots or pystore, not %q", *from)
		}
		if err := cliutil.CheckProgress(*when); err != nil {
			return err
		}
		all, err := find(args[0])
		if err != nil {
			return err
		}
		var read atomic.Int64
		bar := progress.Start(a.err, cliutil.ShowsProgress(*when, a.err))
		defer bar.Stop()
		bar.Count(-1, read.Load)
		ctx := cmd.Context()
		return p.with(ctx, true, func(s backend) error {
			var differ error
			for _, src := range all {
				if b := p.chosen(cmd); b != nil && *b != src.bucket {
					continue
				}
				state, sum, err := importTable(ctx, s, src, &read)
				if errors.Is(err, errDiffers) {
					differ = errors.Join(differ, err)
					continue
				} else if err != nil {
					return fmt.Errorf("%s in bucket %s: %w", shown(src.name), shown(src.bucket), err)
				}
				_, err = fmt.Fprintf(a.out, "%s\t%s\t%s\t%d rows\t%s\n", state, shown(src.bucket), shown(src.name), sum.Rows, sum)
				if err != nil {
					return err
				}
			}
			return differ
		})
	}
	return cmd
}

var errDiffers = errors.New("the table is there, with other rows: delete it first, or import into another directory")

// importTable puts a table if it is not there, and compares its rows with the
// source's.
func importTable(ctx context.Context, s backend, src source, read *atomic.Int64) (state string, sum *rowsum.Sum, err error) {
	want := &rowsum.Sum{}
	_, _, err = s.Describe(ctx, src.bucket, src.name, nil)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return "", nil, err
	}
	state = "unchanged"
	r, err := src.open(ctx, read)
	if err != nil {
		return "", nil, err
	}
	defer r.Release()
	counted := &arrowsafe.Counted{RecordReader: r, Look: want.Add}
	if missing {
		state = "imported"
		_, err = s.Put(ctx, src.bucket, src.name, counted, tables.Error, &tables.PutOptions{Metadata: src.metadata})
	} else {
		for counted.Next() {
		}
		err = counted.Err()
	}
	if err != nil {
		return "", nil, err
	}
	got := &rowsum.Sum{}
	rows, err := s.Scan(ctx, src.bucket, src.name, nil, nil)
	if err != nil {
		return "", nil, err
	}
	defer rows.Release()
	for rows.Next() {
		got.Add(rows.RecordBatch())
	}
	switch {
	case rows.Err() != nil:
		return "", nil, rows.Err()
	case got.Equals(want):
		return state, got, nil
	case state == "unchanged":
		return "", nil, fmt.Errorf("%s in bucket %s: %w", shown(src.name), shown(src.bucket), errDiffers)
	}
	return "", nil, fmt.Errorf("%d rows with checksum %s were put, and %d with %s are read", want.Rows, want, got.Rows, got)
}

// open reads the files one after the other.
func (s source) open(ctx context.Context, read *atomic.Int64) (array.RecordReader, error) {
	first, end, err := openParquet(ctx, s.files[0])
	if err != nil {
		return nil, err
	}
	schema := first.Schema()
	first.Release()
	end()
	return array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
		for _, path := range s.files {
			if more, err := readPart(ctx, path, schema, read, yield); err != nil {
				yield(nil, err)
				return
			} else if !more {
				return
			}
		}
	}), nil
}

// readPart yields the batches of a file, and tells whether more are wanted.
func readPart(ctx context.Context, path string, schema *arrow.Schema, read *atomic.Int64, yield func(arrow.RecordBatch, error) bool) (bool, error) {
	r, end, err := openParquet(ctx, path)
	if err != nil {
		return false, err
	}
	defer end()
	defer r.Release()
	if !sameColumns(r.Schema(), schema) {
		return false, fmt.Errorf("%s: its columns differ from those of the files before", path)
	}
	for r.Next() {
		b := r.RecordBatch()
		b.Retain() // for the reader, which releases it
		if !yield(b, nil) {
			return false, nil
		}
	}
	if info, err := os.Stat(path); err == nil {
		read.Add(info.Size())
	}
	return true, r.Err()
}

func openParquet(ctx context.Context, path string) (array.RecordReader, func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	end := func() { _ = f.Close() } // it was only read
	r, err := (&formats.Input{Name: path, File: f, Format: formats.Parquet}).Read(ctx)
	if err != nil {
		end()
		return nil, nil, err
	}
	return r, end, nil
}

// sameColumns compares names and types; what writers note beside them may differ.
func sameColumns(a, b *arrow.Schema) bool {
	return slices.EqualFunc(a.Fields(), b.Fields(), func(f, g arrow.Field) bool { return f.Name == g.Name && arrow.TypeEqual(f.Type, g.Type) })
}
