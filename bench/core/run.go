package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/logstore"
)

const (
	batchLen   = 1000
	entryBytes = 100
	memory     = 256 << 20 // memory limit of the Buffer, except in the run "buffer"
)

// runOne runs the test that name describes: its kind and the number of keys, such as "dict 1000".
// It prints the number of entries, the seconds, and the process's peak memory in kB.
func runOne(name string) error {
	kind, keysText, _ := strings.Cut(name, " ")
	keys, err := strconv.Atoi(keysText)
	if err != nil {
		return fmt.Errorf("run %q: the number of keys is missing", name)
	}
	entries := map[string]int{"dict": 10_000_000, "map": 10_000_000, "file": 2_000_000, "buffer": 5_000_000, "spill": 20_000_000, "many": 5_000_000, "zipf": 5_000_000}[kind]
	batches := makeBatches(keys, kind)
	var seconds float64
	switch kind {
	case "map":
		seconds = runMap(batches, entries)
	case "dict":
		seconds, err = runStore(partd.NewDict(), batches, entries)
	case "file", "buffer", "spill", "many", "zipf":
		seconds, err = runDisk(kind, batches, entries)
	default:
		return fmt.Errorf("run %q: use dict, map, file, buffer, spill, many or zipf", name)
	}
	if err != nil {
		return err
	}
	fmt.Println(entries, seconds, program.Peak(os.Getpid())>>10)
	return nil
}

// makeBatches returns batches with random keys. For the kind "file", each batch has each key once.
func makeBatches(keys int, kind string) [][]partd.Entry {
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 1, uint64(keys-1))
	value := bytes.Repeat([]byte("v"), entryBytes)
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("key%08d", i)
	}
	batches := make([][]partd.Entry, min(max(100, 4*keys/batchLen), 4000))
	for i := range batches {
		batches[i] = make([]partd.Entry, batchLen)
		for j := range batches[i] {
			k := rng.IntN(keys)
			switch kind {
			case "file":
				k = j % keys
			case "zipf":
				k = int(zipf.Uint64())
			}
			batches[i][j] = partd.Entry{Key: names[k], Value: value}
		}
	}
	return batches
}

func runDisk(kind string, batches [][]partd.Entry, entries int) (float64, error) {
	var store partd.Partd
	var err error
	if kind == "many" || kind == "zipf" {
		store, err = logstore.Open("store", nil)
	} else {
		store, err = partd.OpenFile("store", nil)
	}
	if err != nil {
		return 0, err
	}
	if kind != "file" {
		opts := &partd.BufferOptions{}
		if kind != "buffer" {
			opts.Memory = memory
		}
		if store, err = partd.NewBuffer(partd.NewDict(), store, opts); err != nil {
			return 0, err
		}
	}
	return runStore(store, batches, entries)
}

// runStore appends the entries and then checks the size of each key's value. It returns how many seconds the appends
// took. The final flush does not count, as in the peer's time.
func runStore(store partd.Partd, batches [][]partd.Entry, entries int) (float64, error) {
	ctx := context.Background()
	want := map[string]int64{}
	start := time.Now()
	for i := range entries / batchLen {
		if err := store.Append(ctx, batches[i%len(batches)]...); err != nil {
			return 0, err
		}
	}
	seconds := time.Since(start).Seconds()
	for i := range entries / batchLen {
		for _, e := range batches[i%len(batches)] {
			want[e.Key] += int64(len(e.Value))
		}
	}
	for info, err := range partd.Keys(ctx, store) {
		if err != nil {
			return 0, err
		}
		if want[info.Key] != info.Size {
			return 0, fmt.Errorf("key %s has %d bytes, want %d", info.Key, info.Size, want[info.Key])
		}
		delete(want, info.Key)
	}
	if len(want) > 0 {
		return 0, fmt.Errorf("%d keys are missing", len(want))
	}
	return seconds, partd.Close(ctx, store)
}

func runMap(batches [][]partd.Entry, entries int) float64 {
	m := map[string][]byte{}
	start := time.Now()
	for i := range entries / batchLen {
		for _, e := range batches[i%len(batches)] {
			m[e.Key] = append(m[e.Key], e.Value...)
		}
	}
	return time.Since(start).Seconds()
}
