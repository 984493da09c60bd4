package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/compress"
)

// keys is the number of keys. The keys take turns: value i is appended to key i modulo keys.
const keys = 1000

// runOne runs the test that spec describes: the format, the bytes of a value, the values
// per Append, and the total bytes. It prints the bytes, the seconds and CPU seconds of
// appending, the seconds of getting all values, and their checksum.
func runOne(spec, data string) error {
	var format compress.Format
	var value, batch, total int
	if _, err := fmt.Sscan(spec, &format, &value, &batch, &total); err != nil {
		return fmt.Errorf("run %q: %w", spec, err)
	}
	text := bytes.Repeat([]byte(uniform), 1<<20)
	if data != uniform {
		var err error
		if text, err = os.ReadFile(data); err != nil {
			return err
		}
	}
	f, err := runFormat(format, text, value, batch, total)
	if err != nil {
		return err
	}
	fmt.Println(f.bytes, f.appendSeconds, f.appendCPU, f.getSeconds, f.sum)
	return nil
}

// runFormat appends total bytes in batches of values and then reads all keys. value is the length of
// a value. Values are consecutive pieces of text, which starts again when it is used up.
func runFormat(format compress.Format, text []byte, value, batch, total int) (figures, error) {
	ctx := context.Background()
	store, err := compress.New(partd.NewDict(), format, nil)
	if err != nil {
		return figures{}, err
	}
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("key%08d", i)
	}
	var batches [][]partd.Entry
	next, n := 0, 0
	for n*value < total {
		entries := make([]partd.Entry, batch)
		for i := range entries {
			if next+value > len(text) {
				next = 0
			}
			entries[i] = partd.Entry{Key: names[n%keys], Value: text[next : next+value]}
			next, n = next+value, n+1
		}
		batches = append(batches, entries)
	}
	f := figures{bytes: float64(n * value)}
	start, cpu := time.Now(), program.CPU()
	for _, b := range batches {
		if err := store.Append(ctx, b...); err != nil {
			return f, err
		}
	}
	f.appendSeconds, f.appendCPU = time.Since(start).Seconds(), (program.CPU() - cpu).Seconds()
	sum, read := uint32(0), 0
	for _, name := range names {
		start = time.Now()
		v, err := store.Get(ctx, name)
		f.getSeconds += time.Since(start).Seconds()
		if err != nil {
			return f, err
		}
		read += len(v[0])
		sum = crc32.Update(sum, crc32.IEEETable, v[0])
	}
	if read != n*value {
		return f, fmt.Errorf("read %d bytes of %d", read, n*value)
	}
	f.sum = fmt.Sprintf("%08x", sum)
	return f, store.Close()
}
