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
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// serverEnv is the environment variable that makes this program the server.
const serverEnv = "PARTD_BENCH_SERVER"

//go:embed server.py
var pythonServer string

// startServer starts partd-server with a new store of the given kind, such as "log:". The caller
// must call stop, which also removes the store.
func startServer(ctx context.Context, store string) (p *serverproc.Process, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "partd-bench-*")
	if err != nil {
		return nil, nil, err
	}
	if store != "mem:" {
		store += dir + "/data"
	}
	cmd := program.Self("--listen", "tcp://127.0.0.1:0", "--store", store, "--max-connections", "10000")
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	p, err = serverproc.Start(ctx, cmd, 1)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, func() error { return errors.Join(p.Stop(time.Minute), os.RemoveAll(dir)) }, nil
}

func withServer(ctx context.Context, store string, f func(context.Context, string) (float64, error)) (rate float64, err error) {
	p, stop, err := startServer(ctx, store)
	if err != nil {
		return 0, err
	}
	rate, err = f(ctx, p.URL())
	return rate, errors.Join(err, stop())
}

// withPythonServer is like withServer, but starts the server of Python's partd, with a store in
// memory.
func withPythonServer(ctx context.Context, f func(context.Context, string) (float64, error)) (float64, error) {
	cmd, err := program.Python("partd, zmq", "-c", pythonServer)
	if err != nil {
		return 0, err
	}
	p, err := serverproc.Start(ctx, cmd, 1)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	return f(ctx, p.URL())
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
// memory and CPU time while they are idle.
func measureIdle(ctx context.Context, n int, asJSON bool) (err error) {
	const idleTime = 10 * time.Second
	p, stop, err := startServer(ctx, "mem:")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	f := idleFigures{Row: "idle connections", Connections: n}
	if f.IdleBytes, _, err = serverproc.Memory(p.Pid()); err != nil {
		return err
	}
	network, address := p.Address()
	start := time.Now()
	peers := make([]*hostile.Peer, 0, n)
	defer func() {
		for _, peer := range peers {
			err = errors.Join(err, peer.Close())
		}
	}()
	for i := range n {
		peer, err := hostile.Open(ctx, network, address, time.Hour)
		if err != nil {
			return err
		}
		peers = append(peers, peer)
		if err := peer.Ask([]string{"ack"}, "append", fmt.Sprint("k", i), "v"); err != nil {
			return err
		}
	}
	f.SecondsToOpen = time.Since(start).Seconds()
	cpuBefore, err := serverproc.CPU(p.Pid())
	if err != nil {
		return err
	}
	time.Sleep(idleTime)
	cpuAfter, err := serverproc.CPU(p.Pid())
	if err != nil {
		return err
	}
	if f.Bytes, _, err = serverproc.Memory(p.Pid()); err != nil {
		return err
	}
	f.BytesEach = (f.Bytes - f.IdleBytes) / int64(n)
	f.CPUPerMinute = (cpuAfter - cpuBefore).Seconds() * float64(time.Minute/idleTime)
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(f)
	}
	fmt.Printf("%d idle connections: opened in %.1f s; memory %.1f MiB, without them %.1f MiB, %.1f KiB each; %.2f CPU seconds per minute\n",
		n, f.SecondsToOpen, float64(f.Bytes)/(1<<20), float64(f.IdleBytes)/(1<<20), float64(f.BytesEach)/1024, f.CPUPerMinute)
	return nil
}
