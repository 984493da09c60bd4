package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/servercli"
)

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
	if os.Getenv(asReader) != "" {
		os.Exit(readerMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A small run of the loads, which check the values on the server.
func TestLoads(t *testing.T) {
	for name, load := range map[string]func(context.Context, string) (float64, error){
		"Go clients":  func(ctx context.Context, url string) (float64, error) { return appendSmall(ctx, url, 2, 2, 8) },
		"raw clients": func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) },
	} {
		if rate, err := withServer(t.Context(), "mem:", load); err != nil || rate <= 0 {
			t.Errorf("%s: %v MB/s, %v", name, rate, err)
		}
	}
	_, err := withPythonServer(t.Context(), func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) })
	if errors.Is(err, program.ErrNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// A small run of the readers, which check that they read each value once in total.
func TestReaders(t *testing.T) {
	for _, store := range []string{"log:", "file:", "mem:"} {
		if err := measureReaders(t.Context(), "readers, "+store, store, 16, 1, true); err != nil {
			t.Errorf("%s: %v", store, err)
		}
	}
}

// A small run with three servers, which checks that all values are read.
func TestShards(t *testing.T) {
	if err := measureShards(t.Context(), 8, 1, true); err != nil {
		t.Error(err)
	}
}
