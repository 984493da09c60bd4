package bulk_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

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

// Each counts the sessions of users. A session ends if there is no click for half an hour. All clicks of a user are in
// one part, in their order.
func ExampleEach() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	input := filepath.Join(dir, "clicks.csv")
	clicks := "user,at\nann,2026-01-02T10:00:00Z\nbob,2026-01-02T10:05:00Z\nann,2026-01-02T10:20:00Z\nann,2026-01-02T11:30:00Z\n"
	if err := os.WriteFile(input, []byte(clicks), 0o666); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	rows, err := bulk.Open(ctx, input)
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Release()

	columns := arrow.NewSchema([]arrow.Field{{Name: "user", Type: arrow.BinaryTypes.String}, {Name: "sessions", Type: arrow.PrimitiveTypes.Int64}}, nil)
	countSessions := func(_ context.Context, part map[string]array.RecordReader) (array.RecordReader, error) {
		last, sessions := map[string]time.Time{}, map[string]int64{}
		clicks := part["clicks"]
		for clicks.Next() {
			users, times := clicks.RecordBatch().Column(0).(*array.String), clicks.RecordBatch().Column(1).(*array.Timestamp)
			unit := times.DataType().(*arrow.TimestampType).Unit
			for i := range users.Len() {
				at := times.Value(i).ToTime(unit)
				if at.Sub(last[users.Value(i)]) > 30*time.Minute {
					sessions[users.Value(i)]++
				}
				last[users.Value(i)] = at
			}
		}
		if err := clicks.Err(); err != nil {
			return nil, err
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		defer b.Release()
		for user, n := range sessions {
			b.Field(0).(*array.StringBuilder).Append(user)
			b.Field(1).(*array.Int64Builder).Append(n)
		}
		return array.NewRecordReader(columns, []arrow.RecordBatch{b.NewRecordBatch()})
	}
	inputs := []bulk.EachInput{{Name: "clicks", Rows: rows, By: []string{"user"}}}
	for result, err := range bulk.Each(ctx, inputs, &bulk.EachOptions{}, countSessions) {
		if err != nil {
			log.Fatal(err)
		}
		for result.Next() {
			b := result.RecordBatch()
			for i := range int(b.NumRows()) {
				fmt.Println(b.Column(0).ValueStr(i), "had", b.Column(1).ValueStr(i), "sessions")
			}
		}
		result.Release()
	}
	// Unordered output:
	// ann had 2 sessions
	// bob had 1 sessions
}
