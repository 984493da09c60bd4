package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/serverproc"
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
		if asJSON {
			if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("%s, servers: %d, append %s MB/s, %.2f CPU s/GB; read %s MB/s, %.2f CPU s/GB\n", f.Row, f.Servers,
			formatSpread(f.Append), program.Median(f.AppendCPU), formatSpread(f.Read), program.Median(f.ReadCPU))
	}
	return nil
}

func (f *shardsFigures) run(ctx context.Context, batches int) (err error) {
	var servers []*serverproc.Process
	var addresses []string
	for range f.Servers {
		p, stop, err := startServer(ctx, "log:")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		_, address := p.Address()
		servers, addresses = append(servers, p), append(addresses, address)
	}
	url := "tcp://" + strings.Join(addresses, ",")
	rate, cpu, err := measureCPU(servers, func() (float64, error) { return appendSmall(ctx, url, 1, 4, batches) })
	if err != nil {
		return err
	}
	total := float64(batches * keys * valueBytes)
	f.Append, f.AppendCPU = append(f.Append, rate), append(f.AppendCPU, cpu/total*1e9)
	// Without a flush, three servers would still have more of the data in memory than one server.
	if err := flush(ctx, url); err != nil {
		return err
	}
	rate, cpu, err = measureCPU(servers, func() (float64, error) {
		start := time.Now()
		n, err := readPart(ctx, []string{url, "0", "1"})
		if err == nil && float64(n) != total {
			err = fmt.Errorf("%d servers returned %d bytes, want %.0f", f.Servers, n, total)
		}
		return total / mega / time.Since(start).Seconds(), err
	})
	f.Read, f.ReadCPU = append(f.Read, rate), append(f.ReadCPU, cpu/total*1e9)
	return err
}

func flush(ctx context.Context, url string) error {
	c, err := dial(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(c.Flush(ctx), c.Close())
}

// measureCPU runs a load, and also returns the CPU seconds of this process and the servers.
func measureCPU(servers []*serverproc.Process, load func() (float64, error)) (rate, cpu float64, err error) {
	cpuTotal := func() (sum float64) {
		var ownCPU syscall.Rusage
		err = errors.Join(err, syscall.Getrusage(syscall.RUSAGE_SELF, &ownCPU))
		sum = time.Duration(ownCPU.Utime.Nano() + ownCPU.Stime.Nano()).Seconds()
		for _, p := range servers {
			usage, cpuErr := serverproc.CPU(p.Pid())
			err = errors.Join(err, cpuErr)
			sum += usage.Seconds()
		}
		return sum
	}
	cpuBefore := cpuTotal()
	rate, loadErr := load()
	return rate, cpuTotal() - cpuBefore, errors.Join(err, loadErr)
}
