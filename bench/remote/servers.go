package main

import (
	"context"
	_ "embed"
	"errors"

	"github.com/go-partd/partd/bench/internal/program"
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

// cpuDuring returns the CPU seconds that a server uses while f runs.
func cpuDuring(server *program.Server, f func() error) (seconds float64, err error) {
	before, err := procs.CPU(server.Pid())
	if err := errors.Join(err, f()); err != nil {
		return 0, err
	}
	after, err := procs.CPU(server.Pid())
	return (after - before).Seconds(), err
}
