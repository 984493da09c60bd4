package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/procs"
)

//go:embed server.py
var pythonServer string

// startServer starts partd-server with a new store of the given kind, such as "log:". The caller
// must close it.
func startServer(ctx context.Context, store string) (*program.Server, error) {
	if store != "mem:" {
		store += "DIR"
	}
	return program.StartServer(ctx, "", store, "--max-connections", "10000")
}

func withServer(ctx context.Context, store string, f func(context.Context, string) (float64, error)) (rate float64, err error) {
	p, err := startServer(ctx, store)
	if err != nil {
		return 0, err
	}
	rate, err = f(ctx, p.URL())
	return rate, errors.Join(err, p.Close())
}

// withPythonServer is like withServer, but starts the server of Python's partd, with a store in
// memory.
func withPythonServer(ctx context.Context, f func(context.Context, string) (float64, error)) (float64, error) {
	cmd, err := program.Python("partd, zmq", "-c", pythonServer)
	if err != nil {
		return 0, err
	}
	p, err := procs.StartServer(ctx, cmd, 1)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	return f(ctx, p.URL())
}

// report prints figures, either as JSON or as text.
func report(asJSON bool, figures any, text string) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(figures)
	}
	_, err := fmt.Print(text)
	return err
}

type idleFigures struct {
	Row           string  `json:"row"`
	Connections   int     `json:"connections"`
	IdleBytes     int64   `json:"memory_without_bytes"` // the server's memory before the connections
	Bytes         int64   `json:"memory_bytes"`         // the server's memory with the connections
	BytesEach     int64   `json:"memory_bytes_each"`
	CPUPerMinute  float64 `json:"cpu_seconds_per_minute"`
	SecondsToOpen float64 `json:"seconds_to_open"`
}

// measureIdle opens n connections, sends one append over each, and then measures the server's
// memory and CPU time while the connections are idle.
func measureIdle(ctx context.Context, n int, asJSON bool) (err error) {
	const idleTime = 10 * time.Second
	p, err := startServer(ctx, "mem:")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	f := idleFigures{Row: "idle connections", Connections: n}
	if f.IdleBytes, _, err = procs.Memory(p.Pid()); err != nil {
		return err
	}
	start := time.Now()
	f.CPUPerMinute, err = withPeers(ctx, p.URL(), n, func(peers []*hostile.Peer) (float64, error) {
		for i, peer := range peers {
			if err := peer.Ask([]string{"ack"}, "append", fmt.Sprint("k", i), "v"); err != nil {
				return 0, err
			}
		}
		f.SecondsToOpen = time.Since(start).Seconds()
		cpu, err := cpuDuring([]*program.Server{p}, func() error { time.Sleep(idleTime); return nil })
		if err == nil {
			f.Bytes, _, err = procs.Memory(p.Pid())
		}
		return cpu * float64(time.Minute/idleTime), err
	})
	if err != nil {
		return err
	}
	f.BytesEach = (f.Bytes - f.IdleBytes) / int64(n)
	return report(asJSON, f, fmt.Sprintf("%d idle connections: opened in %.1f s; memory %.1f MiB, without them %.1f MiB, %.1f KiB each; %.2f CPU seconds per minute\n",
		n, f.SecondsToOpen, float64(f.Bytes)/(1<<20), float64(f.IdleBytes)/(1<<20), float64(f.BytesEach)/1024, f.CPUPerMinute))
}

// cpuDuring returns the CPU seconds that servers use while f runs.
func cpuDuring(servers []*program.Server, f func() error) (seconds float64, err error) {
	sum := func() (sum float64) {
		for _, p := range servers {
			used, cpuErr := procs.CPU(p.Pid())
			err = errors.Join(err, cpuErr)
			sum += used.Seconds()
		}
		return sum
	}
	before := sum()
	err = errors.Join(err, f())
	seconds = sum() - before
	return seconds, err
}
