package pull_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/go-partd/partd/tables/pull"
)

// One node saves a table, and another node loads it. The registry is a NATS server in this process.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // examples keep error handling short
	registry, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "registry"), NoSigs: true})
	if err != nil {
		panic(err)
	}
	go registry.Start()
	defer registry.Shutdown()
	if !registry.ReadyForConnections(time.Minute) {
		panic("the registry did not start")
	}
	ctx := context.Background()
	open := func(name string) *pull.Node {
		n, err := pull.Open(ctx, filepath.Join(dir, name), &pull.Options{Registry: registry.ClientURL(), Listen: "localhost:0"})
		if err != nil {
			panic(err)
		}
		return n
	}
	one, two := open("one"), open("two")
	defer one.Close() //nolint:errcheck // examples keep error handling short
	defer two.Close() //nolint:errcheck // examples keep error handling short
	schema := arrow.NewSchema([]arrow.Field{{Name: "day", Type: arrow.PrimitiveTypes.Date32}, {Name: "price", Type: arrow.PrimitiveTypes.Float64}}, nil)
	prices := array.NewJSONReader(strings.NewReader(`{"day": "2026-01-01", "price": 10} {"day": "2026-01-02", "price": 11}`), schema, array.WithChunk(-1))
	defer prices.Release()
	if _, err := one.Save(ctx, "prices", prices); err != nil {
		panic(err)
	}
	rows, err := two.Load(ctx, "prices", time.Time{}, time.Time{})
	if err != nil {
		panic(err)
	}
	defer rows.Release()
	for rows.Next() {
		fmt.Println(rows.RecordBatch().Column(1))
	}
	// Output: [10 11]
}
