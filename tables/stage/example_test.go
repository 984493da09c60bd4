package stage_test

import (
	"context"
	"embed"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	_ "github.com/go-partd/partd/tables/postgres" // for the catalog of ExampleOptions_s3
	"github.com/go-partd/partd/tables/stage"
)

//go:embed stage.go example_test.go
var source embed.FS

// A program outside this module does not need Modules.
var modules = map[string]string{"github.com/go-partd/partd": "v0.1.0"}

func Example() {
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	raw := filepath.Join(dir, "words.txt")
	if err := os.WriteFile(raw, []byte("the cat saw the cat"), 0o666); err != nil {
		log.Fatal(err)
	}

	words := stage.Define("words", func(_ context.Context, in *stage.Inputs) ([]string, error) {
		fmt.Println("words runs")
		b, err := os.ReadFile(in.Files()[0])
		return strings.Fields(string(b)), err
	}, stage.Spec[[]string]{
		Files: []string{raw}, Code: []stage.Code{{Files: source}}, Modules: modules,
		Cache: true, Codec: encode.JSON[[]string](), CodecName: "json",
	})

	count := stage.Define("count", func(_ context.Context, in *stage.Inputs) (map[string]int, error) {
		fmt.Println("count runs")
		all, err := words.Of(in)
		counts := map[string]int{}
		for _, w := range all {
			counts[w]++
		}
		return counts, err
	}, stage.Spec[map[string]int]{
		From: []stage.Any{words}, Code: []stage.Code{{Files: source}}, Modules: modules,
		Cache: true, Codec: encode.JSON[map[string]int](), CodecName: "json",
	})

	results, err := stage.Open(filepath.Join(dir, "results"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer results.Close()
	for range 2 {
		counts, err := count.Run(context.Background(), results)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(counts)
	}
	// Output:
	// words runs
	// count runs
	// map[cat:2 saw:1 the:2]
	// map[cat:2 saw:1 the:2]
}

// Results in a store of tables can be read by every program that reads tables.
func ExampleOptions() {
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	store, err := tables.Open(ctx, filepath.Join(dir, "tables"), &tables.Options{NoTail: true})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	results, err := stage.Open(filepath.Join(dir, "work"), &stage.Options{Tables: store, Bucket: "stages"})
	if err != nil {
		log.Fatal(err)
	}
	defer results.Close()
	numbers := stage.Define("numbers", func(context.Context, *stage.Inputs) (arrow.Table, error) {
		return tableWith(1, 2, 3), nil
	}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
	plan := func() {
		steps, err := numbers.Plan(ctx, results)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s: %q\n", steps[0].Stage, steps[0].Action, steps[0].Why)
	}
	plan()
	rows, err := numbers.Run(ctx, results)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rows.NumRows())
	plan()
	for info, err := range store.Bucket("stages").Tables(ctx, nil) {
		fmt.Println(info.Rows, err)
	}
	// Output:
	// numbers runs: "it never ran"
	// 3
	// numbers kept: "its inputs have not changed"
	// 3 <nil>
}

// Results in an S3 bucket can be shared by many machines.
func ExampleOptions_s3() {
	ctx := context.Background()
	house, err := tables.Open(ctx, "s3://my-bucket/house?region=eu-central-1", &tables.Options{
		OpenBucket: cloud.OpenBucket,
		Catalog:    "postgres://partd@db.example.com/house",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer house.Close()
	results, err := stage.Open("/var/tmp/stages", &stage.Options{Tables: house, Bucket: "stages"})
	if err != nil {
		log.Fatal(err)
	}
	defer results.Close()
}
