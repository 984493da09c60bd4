package iceberg_test

import (
	"context"
	"fmt"
	"os"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
)

// Load a table for Iceberg's Go library, including rows that are only in the tail.
func ExampleLoad() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // only an example
	store, err := tables.Open(ctx, dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // only an example
	type trade struct {
		Symbol string `arrow:"symbol"`
		Volume int64  `arrow:"volume"`
	}
	trades := store.Bucket("market").Table("trades")
	if _, err := tables.Append(ctx, trades, []trade{{"A", 100}, {"B", 50}}); err != nil {
		panic(err)
	}
	loaded, err := iceberg.Load(ctx, trades, &iceberg.LoadOptions{Fold: true})
	if err != nil {
		panic(err)
	}
	fmt.Println(loaded.Schema())
	fmt.Println(loaded.CurrentSnapshot().Summary.Properties["total-records"], "rows")
	// Output:
	// table {
	// 	1: symbol: required string
	// 	2: volume: required long
	// }
	// 2 rows
}
