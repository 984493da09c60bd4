package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

type shardsFigures struct {
	Row       string    `json:"row"`
	Servers   int       `json:"servers"`
	Append    []float64 `json:"append_mb_per_s"`
	Read      []float64 `json:"read_mb_per_s"`
	AppendCPU []float64 `json:"append_cpu_seconds_per_gb"` // CPU time of the client and the servers
	ReadCPU   []float64 `json:"read_cpu_seconds_per_gb"`
}

const shardsName = "shards: three servers and one"

// measureShards compares one server with three, in turns. A client appends batches with four
// concurrent requests, and then reads everything.
func measureShards(ctx context.Context, batches, rounds int, asJSON bool) error {
	results := []*shardsFigures{{Row: shardsName, Servers: 1}, {Row: shardsName, Servers: 3}}
	for range rounds {
		for _, f := range results {
			if err := f.run(ctx, batches); err != nil {
				return err
			}
		}
	}
	for _, f := range results {
		for _, list := range [][]float64{f.Append, f.Read, f.AppendCPU, f.ReadCPU} {
			slices.Sort(list)
		}
		if err := report(asJSON, f, fmt.Sprintf("%s, servers: %d, append %s MB/s, %.2f CPU s/GB; read %s MB/s, %.2f CPU s/GB\n", f.Row, f.Servers,
			formatSpread(f.Append), program.Median(f.AppendCPU), formatSpread(f.Read), program.Median(f.ReadCPU))); err != nil {
			return err
		}
	}
	return nil
}

func (f *shardsFigures) run(ctx context.Context, batches int) (err error) {
	var servers []*program.Server
	var addresses []string
	for range f.Servers {
		p, err := startServer(ctx, "log:")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		_, address := p.Address()
		servers, addresses = append(servers, p), append(addresses, address)
	}
	url := "tcp://" + strings.Join(addresses, ",")
	total := float64(batches * keys * valueBytes)
	// run returns the rate of a load, and the CPU seconds per GB of this process and the servers.
	run := func(load func() (rate float64, err error)) (rate, cpu float64, err error) {
		before := program.CPU()
		cpu, err = cpuDuring(servers, func() (err error) { rate, err = load(); return err })
		return rate, (cpu + (program.CPU() - before).Seconds()) / total * 1e9, err
	}
	rate, cpu, err := run(func() (float64, error) { return appendSmall(ctx, url, 1, 4, batches) })
	if err != nil {
		return err
	}
	f.Append, f.AppendCPU = append(f.Append, rate), append(f.AppendCPU, cpu)
	// Without a flush, three servers would still have more of the data in memory than one server.
	if _, err := withClient(ctx, url, func(c client) (struct{}, error) { return struct{}{}, c.Flush(ctx) }); err != nil {
		return err
	}
	rate, cpu, err = run(func() (float64, error) {
		start := time.Now()
		n, err := readPart(ctx, []string{url, "0", "1"})
		if err == nil && float64(n) != total {
			err = fmt.Errorf("%d servers returned %d bytes, want %.0f", f.Servers, n, total)
		}
		return total / mega / time.Since(start).Seconds(), err
	})
	f.Read, f.ReadCPU = append(f.Read, rate), append(f.ReadCPU, cpu)
	return err
}
