package tables_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// BenchmarkCorrect corrects tables of increasing size, and a table with a thousand files.
func BenchmarkCorrect(b *testing.B) {
	for _, rows := range []int{1_000, 100_000, 1_000_000} {
		benchmarkCorrect(b, fmt.Sprint("rows=", rows), tables.PartitionMonth, rows, time.Second)
	}
	benchmarkCorrect(b, "files=1000", tables.PartitionDay, 100_000, 864*time.Second)
}

func benchmarkCorrect(b *testing.B, name string, partition tables.Partition, rows int, step time.Duration) {
	ctx := b.Context()
	newTable := func(b *testing.B) *tables.Bucket {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		bucket := tabletest.Open(b, dir, &tables.Options{NoTail: true}).Bucket("")
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, Partition: partition}}
		if _, err := bucket.Table("t").Put(ctx, evenlySpaced(rows, step), tables.PutAppend, o); err != nil {
			b.Fatal(err)
		}
		return bucket
	}
	start := day0.Add(time.Duration(rows) * step / 2)
	end := start.Add(time.Duration(rows) * step / 100)
	for _, c := range []struct {
		name string
		do   func(*tables.Bucket) (tables.RewriteResult, error)
	}{
		{"delete", func(t *tables.Bucket) (tables.RewriteResult, error) {
			cond, err := filter.Parse("n < 10000 and sym = 'S3'")
			if err != nil {
				return tables.RewriteResult{}, err
			}
			return t.Table("t").DeleteRows(ctx, cond)
		}},
		{"range", func(t *tables.Bucket) (tables.RewriteResult, error) {
			return t.Table("t").ReplaceRange(ctx, start, end, evenlySpaced(0, step), nil)
		}},
		{"upsert", func(t *tables.Bucket) (tables.RewriteResult, error) {
			return t.Table("t").Upsert(ctx, evenlySpaced(rows/100, step), nil)
		}},
	} {
		b.Run(name+"/"+c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				t := newTable(b)
				b.StartTimer()
				result, err := c.do(t)
				if err != nil || result.Deleted == 0 {
					b.Fatalf("result %+v, error %v; want deleted rows", result, err)
				}
				b.ReportMetric(float64(result.Files), "files")
			}
		})
	}
	b.Run(name+"/plan", func(b *testing.B) {
		t := newTable(b)
		table := t.Table("t")
		for b.Loop() {
			r, err := table.Scan(ctx, &tables.ScanOptions{From: start, To: start.Add(step)})
			if err != nil {
				b.Fatal(err)
			}
			r.Release()
		}
	})
}
