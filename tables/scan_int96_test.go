package tables_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestScanInt96 checks that times in INT96, in a file that another program added to a table, have the types of the
// table, that conditions find them, and that compaction keeps them.
func TestScanInt96(t *testing.T) {
	noEnd, day1 := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Unix(0, 1000).UTC()
	for _, c := range []struct {
		last  time.Time
		unit  arrow.TimeUnit
		where string
		want  string // the rows that where finds, or a part of the error
	}{
		{noEnd, arrow.Microsecond, "t > '9999-01-01'", `{"l":[{"x":"9999-12-31T00:00:00"}],"t":"9999-12-31T00:00:00"}`},
		{day1.Add(1), arrow.Nanosecond, "t > '1970-01-01 00:00:00.000001'", `{"l":[{"x":"1970-01-01T00:00:00.000001001"}],"t":"1970-01-01T00:00:00.000001001"}`},
		{day1.Add(1), arrow.Microsecond, "t is not null", `column "t": row 2: the INT96 time 1970-01-01 00:00:00.000001001 has digits below`},
		{noEnd, arrow.Nanosecond, "t is not null", `column "t": row 2: the INT96 time 9999-12-31 00:00:00 is outside the range of timestamp[ns]`},
	} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
		b := s.Bucket("")
		x := tabletest.Nullable("x", &arrow.TimestampType{Unit: c.unit})
		putJSON(t, b, "t", `[{"t":null,"l":null}]`, tabletest.Nullable("t", x.Type), tabletest.Nullable("l", arrow.ListOf(arrow.StructOf(x))))
		path, content := filepath.Join(filepath.Dir(tabletest.FilesOf(t, b, "t")[0]), "int96.parquet"), tabletest.Int96File(t, day1, c.last)
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		foreignCommit(t, s, "t", func(tx *table.Transaction) error {
			file, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "file://"+path, iceberg.ParquetFile, nil, nil, nil, 2, int64(len(content)))
			if err != nil {
				return err
			}
			return tx.AddDataFiles(t.Context(), []iceberg.DataFile{file.FirstRowID(1).Build()}, nil)
		})
		if !strings.HasPrefix(c.want, "{") {
			tab := b.Table("t")
			r, err := tab.Scan(t.Context(), tabletest.Where(t, c.where))
			if err == nil {
				for r.Next() {
				}
				err = r.Err()
				r.Release()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("scan of %v as %s: got error %v, want %s", c.last, x.Type, err, c.want)
			}
			continue
		}
		wantEqual(t, "the scan", scanJSON(t, b, "t", tabletest.Where(t, c.where)), c.want)
		tabletest.Compact(t, s)
		wantEqual(t, "after the compaction", scanJSON(t, b, "t", tabletest.Where(t, c.where)), c.want)
	}
}
