package bulk_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/go-partd/partd/tables/bulk"
)

func ExampleSplit() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	input := filepath.Join(dir, "trades.csv")
	if err := os.WriteFile(input, []byte("sym,price\nAAPL,251.3\nMSFT,410.1\nAAPL,251.4\n"), 0o666); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	rows, err := bulk.Open(ctx, input)
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Release()
	result, err := bulk.Split(ctx, rows, &bulk.SplitOptions{By: []string{"sym"}, Dir: filepath.Join(dir, "by-symbol")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Rows, "rows in", result.Files, "files")

	sorted, err := bulk.Open(ctx, filepath.Join(dir, "by-symbol", "AAPL.parquet"))
	if err != nil {
		log.Fatal(err)
	}
	defer sorted.Release()
	for sorted.Next() {
		fmt.Println(sorted.RecordBatch().Column(1))
	}
	// Output:
	// 3 rows in 2 files
	// [251.3 251.4]
}
