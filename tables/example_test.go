package tables_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// Trade is a row of the table.
type Trade struct {
	At    time.Time       `arrow:"at"`
	Sym   string          `arrow:"sym"`
	Price float64         `arrow:"price"`
	Size  sql.Null[int64] `arrow:"size"`
	Legs  []Leg           `arrow:"legs"`
}

// Leg is a part of a Trade.
type Leg struct {
	Venue string
	Fee   *float64
}

var nineOClock = time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)

// openBucket opens the default bucket of a store in a temporary directory; done closes and removes the store.
func openBucket(ctx context.Context) (bucket *tables.Bucket, done func()) {
	dir, err := os.MkdirTemp("", "tables")
	if err != nil {
		log.Fatal(err)
	}
	store, err := tables.Open(ctx, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	return store.Bucket(""), func() {
		if err := store.Close(); err != nil {
			log.Print(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}
}

func appendTrades(ctx context.Context, bucket *tables.Bucket) *tables.Table {
	_, err := tables.Append(ctx, bucket.Table("trades"), []Trade{
		{At: nineOClock, Sym: "A", Price: 10.5, Size: sql.Null[int64]{V: 100, Valid: true}, Legs: []Leg{{Venue: "X"}}},
		{At: nineOClock.Add(time.Second), Sym: "BRK.B", Price: 700.25},
		{At: nineOClock.Add(time.Minute), Sym: "A", Price: 10.75},
	})
	if err != nil {
		log.Fatal(err)
	}
	return bucket.Table("trades")
}

// This example appends structs as rows, and reads the rows back into structs.
func ExampleRows() {
	ctx := context.Background()
	bucket, done := openBucket(ctx)
	defer done()
	table := appendTrades(ctx, bucket)
	for t, err := range tables.Rows[Trade](ctx, table, nil) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(t.At.Format(time.TimeOnly), t.Sym, t.Price, t.Size.Valid, len(t.Legs))
	}
	// Output:
	// 09:00:00 A 10.5 true 1
	// 09:00:01 BRK.B 700.25 false 0
	// 09:01:00 A 10.75 false 0
}

// Conditions are built from values, which need no quoting. A struct can have fields for only some of the columns.
func ExampleAnd() {
	ctx := context.Background()
	bucket, done := openBucket(ctx)
	defer done()
	table := appendTrades(ctx, bucket)
	type price struct {
		Price float64 `arrow:"price"`
	}
	where := filter.And(filter.In("sym", "A", "it's"), filter.Gt("at", nineOClock), filter.Not(filter.Like("sym", "B%")))
	for p, err := range tables.Rows[price](ctx, table, &tables.ScanOptions{Filter: where}) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(p.Price)
	}
	fmt.Println(where)
	// Output:
	// 10.75
	// ("sym" in ('A', 'it''s')) and ("at" > '2026-01-31T09:00:00-00:00') and (not ("sym" like 'B%'))
}

// Batches releases each batch after its iteration of the loop.
func ExampleTable_Batches() {
	ctx := context.Background()
	bucket, done := openBucket(ctx)
	defer done()
	table := appendTrades(ctx, bucket)
	for batch, err := range table.Batches(ctx, &tables.ScanOptions{Columns: []string{"price"}}) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(batch.Column(0))
	}
	// Output:
	// [10.5 700.25 10.75]
}

// To put structs with options, convert them with Records.
func ExampleRecords() {
	ctx := context.Background()
	bucket, done := openBucket(ctx)
	defer done()
	rows, err := tables.Records([]Trade{{At: nineOClock, Sym: "A", Price: 10.5}})
	if err != nil {
		log.Print(err)
		return
	}
	defer rows.Release()
	v, err := bucket.Table("trades").Put(ctx, rows, tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}}})
	fmt.Println(v, err)
	// Output:
	// 1 <nil>
}

// This example drops a column and adds another, whose type is given as an Arrow type.
func ExampleTable_Evolve() {
	ctx := context.Background()
	bucket, done := openBucket(ctx)
	defer done()
	table := appendTrades(ctx, bucket)
	err := table.Evolve(ctx,
		tables.ColumnChange{Op: tables.DropColumn, Column: "legs"},
		tables.ColumnChange{Op: tables.AddColumn, Column: "note", Type: tables.ColumnTypeOf(arrow.BinaryTypes.String)})
	if err != nil {
		log.Print(err)
		return
	}
	schema, err := table.Schema(ctx)
	if err != nil {
		log.Print(err)
		return
	}
	for _, f := range schema.Fields() {
		fmt.Println(f.Name, f.Type)
	}
	// Output:
	// at timestamp[us, tz=UTC]
	// sym utf8
	// price float64
	// size int64
	// note utf8
}
