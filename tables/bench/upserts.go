//go:build cgo && unix

package main

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

// upsertBench measures upserts.
type upsertBench struct {
	*bench
	upsertRows int
}

// measureUpsert upserts rows by time into a table of ten times as many rows. Half of them replace rows that are spread
// over the table. It measures deletion vectors and rewritten files. Its peers are pyiceberg and DuckLake's MERGE.
func (b *upsertBench) measureUpsert() error {
	base, changes := trades(0, 10*b.upsertRows), changedTrades(b.upsertRows)
	for name, rows := range map[string]arrow.RecordBatch{"rows": base, "changes": changes} {
		if err := b.writeParquet(name, rows); err != nil {
			return err
		}
	}
	job := fmt.Sprintf("upsert %d rows into %d", b.upsertRows, 10*b.upsertRows)
	for _, vectors := range []bool{false, true} {
		elapsed, err := b.medianInStore(nil, func(s *tables.Store) (float64, error) { return b.timeUpsert(s, vectors, base, changes) })
		if err != nil {
			return err
		}
		b.report(job, map[bool]string{false: "tables, rewritten", true: "tables"}[vectors], elapsed, b.rounds)
	}
	return b.reportPeers("upsert", []string{"ducklake", "pyiceberg"}, func(peer, _ string) (string, string) { return job, peer })
}

func (b *upsertBench) timeUpsert(s *tables.Store, vectors bool, base, changes arrow.RecordBatch) (float64, error) {
	err := b.put(s, "t", nil, base)
	if err == nil && vectors {
		err = b.useVectors(s, "t")
	}
	if err != nil {
		return 0, err
	}
	r, err := array.NewRecordReader(changes.Schema(), []arrow.RecordBatch{changes})
	if err != nil {
		return 0, err
	}
	defer r.Release()
	return seconds(func() error {
		result, err := s.Bucket("b").Table("t").Upsert(b.ctx, r, &tables.UpsertOptions{Keys: []string{"at"}})
		if replaced := int64(b.upsertRows+1) / 2; err == nil && result.Deleted != replaced {
			err = fmt.Errorf("the upsert replaced %d rows, want %d", result.Deleted, replaced)
		}
		return err
	})
}

// changedTrades returns n rows. The even rows have the times of the rows 0, 20, 40 and so on of trades. The odd rows
// have new times.
func changedTrades(n int) arrow.RecordBatch {
	rows, at := trades(10*n, n), array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond})
	old := rows.Column(0).(*array.Timestamp)
	for i := range n {
		t := old.Value(i)
		if i%2 == 0 {
			t -= arrow.Timestamp(1000 * (10*n - 9*i)) // row 10n+i of trades becomes row 10i
		}
		at.Append(t)
	}
	return array.NewRecordBatch(rows.Schema(), append([]arrow.Array{at.NewArray()}, rows.Columns()[1:]...), int64(n))
}
